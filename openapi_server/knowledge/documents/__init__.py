"""Documents: what keepers write of an animal, as values and as files."""
