"""Fact retrieval: full-text search, and semantic search where the extra `semantic` is installed."""
