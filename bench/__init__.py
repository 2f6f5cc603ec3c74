"""Benchmarks, and the simulated people whose clicks and money they run on."""
