"""Log, store and publisher on SQLite files: embedded mode, and in memory for tests."""
