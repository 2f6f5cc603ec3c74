"""Takes secrets and personal numbers out of everything but ids, before anything is written (docs/masking.md)."""
