"""Snapshots of the state store as folders of files."""
