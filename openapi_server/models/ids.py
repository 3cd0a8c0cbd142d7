"""Ids of turns, sessions and logins."""

from __future__ import annotations

import re
import secrets

SHORT_ID_LENGTH = 13


def make_id(prefix: str) -> str:
    """A new id with 128 random bits. It cannot be guessed: whoever knows the id of an anonymous session may use it."""
    return f"{prefix}_{secrets.token_hex(16)}"


def is_made_id(prefix: str, text: str) -> bool:
    """Whether the text has the form of the ids that `make_id` makes with this prefix.

    >>> is_made_id("sess", "sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718"), is_made_id("sess", "sess_1700000000_mia")
    (True, False)
    """
    return text.startswith(f"{prefix}_") and re.fullmatch("[0-9a-f]{32}", text[len(prefix) + 1 :]) is not None


def shorten_id(whole_id: str) -> str:
    """The beginning of an id, for logs and the audit trail: enough to tell ids apart, too little to use one.

    >>> shorten_id("sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718")
    'sess_9c8b7a6d'
    """
    return whole_id[:SHORT_ID_LENGTH]
