"""Turns: how they start, run and end, and how they are read. No HTTP, no wire formats."""
