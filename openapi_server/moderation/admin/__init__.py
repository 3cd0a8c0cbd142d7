"""Keeping: the rules that keepers lay over the packaged ones, while the server runs."""
