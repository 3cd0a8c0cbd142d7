"""Ids of turns, sessions and logins."""

from __future__ import annotations

import os
import re
from collections import deque

SHORT_ID_LENGTH = 13
RANDOM_BYTES = 16
# As many ids are made of one read: to ask the kernel takes longer than all else about an id.
_IDS_AT_ONCE = 64
# Of the operating system, each used once. A process that is forked must not use those of its parent.
_unused: deque[bytes] = deque()
os.register_at_fork(after_in_child=_unused.clear)


def take_random_bytes() -> bytes:
    """16 bytes that cannot be guessed. Safe to call in any thread."""
    while True:
        try:
            return _unused.popleft()
        except IndexError:
            fresh = os.urandom(RANDOM_BYTES * _IDS_AT_ONCE)
            _unused.extend(fresh[at : at + RANDOM_BYTES] for at in range(0, len(fresh), RANDOM_BYTES))


def make_id(prefix: str) -> str:
    """A new id with 128 random bits. It cannot be guessed: whoever knows the id of an anonymous session may use it."""
    return f"{prefix}_{take_random_bytes().hex()}"


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
