"""Secrets of a prompt: a canary word that no reply may have, in any spelling, and sentences that none may quote."""

from __future__ import annotations

import base64
import codecs
import re
import secrets
from collections.abc import Iterable
from functools import lru_cache

_WINDOW_CHARS = 8
"""A leak of this many characters in a row counts: asked nicely, a mind gives a secret away in halves."""
_WINDOW_WORDS = 7
_WORD = re.compile(r"\w+")
_Quote = tuple[str, ...]


def generate_canary() -> str:
    """A word to put into a prompt, 60 random bits of it. Letters only, few vowels: nobody says it by accident.

    >>> len(generate_canary()), generate_canary().isalpha()
    (16, True)
    """
    return "".join(secrets.choice("bcdfghjklmnpqrtvwxz") for _ in range(16))


class PromptLeakDetector:
    """Knows what must not get out. `canary` is looked for in other spellings, too; `texts` word for word."""

    def __init__(self, canary: str = "", texts: Iterable[str] = ()) -> None:
        self._windows = {window for form in _encode_canary(canary) for window in _iterate_windows(form)}
        self._quotes = frozenset[_Quote]().union(*map(_list_prompt_quotes, texts))

    def is_leaked_in(self, text: str) -> bool:
        """True when a part of a secret stands in the text, however it is spaced, turned or encoded."""
        squeezed = "".join(filter(str.isalnum, text.casefold()))
        return any(window in self._windows for window in _iterate_windows(squeezed)) or not self._quotes.isdisjoint(
            _iterate_quotes(text)
        )


@lru_cache(maxsize=1024)
def _list_prompt_quotes(text: str) -> frozenset[_Quote]:
    """What keepers and we wrote is the same in every prompt."""
    return frozenset(_iterate_quotes(text))


def _encode_canary(canary: str) -> Iterable[str]:
    if not canary:
        return
    raw = canary.encode()
    yield canary.casefold()
    yield canary[::-1].casefold()
    yield codecs.encode(canary, "rot13").casefold()
    yield raw.hex()
    # Base64 depends on where in its text the word begins: for each of the three places, the middle that stays.
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw).decode()
        yield code[4 if shift else 0 : len(code) - 4].casefold()


def _iterate_windows(text: str) -> Iterable[str]:
    return (text[at : at + _WINDOW_CHARS] for at in range(len(text) - _WINDOW_CHARS + 1))


def _iterate_quotes(text: str) -> Iterable[_Quote]:
    words = _WORD.findall(text.casefold())
    return (tuple(words[at : at + _WINDOW_WORDS]) for at in range(len(words) - _WINDOW_WORDS + 1))
