"""The rules R1 to R8 as pure functions: no clock, no I/O, no randomness; time and ids come in as arguments."""
