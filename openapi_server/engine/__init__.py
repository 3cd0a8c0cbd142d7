"""Turns: how they begin and end, what happens in between, and who reads along. No HTTP, no wire format."""
