"""The embedded storage backend: one SQLite file."""
