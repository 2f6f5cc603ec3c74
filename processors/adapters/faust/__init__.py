"""Faust runs the workers: app, group membership and the consumer's thread."""
