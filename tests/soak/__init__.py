"""The soak test: mixed load and a fault each minute for hours, and what the servers hold meanwhile."""
