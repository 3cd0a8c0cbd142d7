"""The gate: what holds a reply back until it was checked."""
