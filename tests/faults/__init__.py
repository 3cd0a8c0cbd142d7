"""Trials inject faults into a real server process and measure each effect against its limit; see `make trials`."""
