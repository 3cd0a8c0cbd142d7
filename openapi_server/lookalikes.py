"""Letters that look like a Latin one (lookalikes.yaml), for the rules of moderation and for names that insult."""

from __future__ import annotations

from pathlib import Path

from openapi_server.yaml_files import load_yaml

LOOKALIKES_FILE = Path(__file__).with_name("lookalikes.yaml")


def _load_lookalikes() -> dict[int, str]:
    # A part of the data of confusable-homoglyphs, not the package: it takes 90 ms to import, and has no such table.
    parts: dict[str, dict[str, str]] = load_yaml(LOOKALIKES_FILE)
    return {ord(letter): latin for part in parts.values() for latin, letters in part.items() for letter in letters}


LOOKALIKES = _load_lookalikes()
"""A table for `str.translate`: from the code of a letter to the lower-case Latin letter that it looks like."""
