"""Trials: faults injected into a real server process, each measured against its line. `make trials` runs them all."""
