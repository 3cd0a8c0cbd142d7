"""Providers: language models, and the offline provider, that write an animal's replies."""
