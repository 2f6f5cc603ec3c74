"""The adapters of the engine's ports: one driver each."""
