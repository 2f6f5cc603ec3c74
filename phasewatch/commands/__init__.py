"""What each command does, one module a command; `phasewatch.cli` says how they are called."""
