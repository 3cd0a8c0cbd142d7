"""Reading: what a text says once its disguises are off."""
