"""Masks: personal data, found and replaced."""
