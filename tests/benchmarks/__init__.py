"""The benchmarks' own parts: what they measure with, and what they make of it."""
