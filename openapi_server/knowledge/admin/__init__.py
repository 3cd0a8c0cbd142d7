"""Keeping: how keepers change animals, try drafts, and fill an empty store."""
