"""Minds that speak for an animal."""
