"""Wishes: which animal a visitor asks to talk with."""
