"""Padding: what may stand between the letters of a phrase without changing how it reads. Pure."""

from __future__ import annotations

import re
import unicodedata

_BLANKS = re.compile(r"\s+")
# The same few signs again and again, or the same sign in a code. Digits stay: their number may matter.
_REPEATED = re.compile(r"(\D{1,8}?)\1{3,}|(%[0-9a-fA-F]{2}|&#?\w{1,8};|\\u[0-9a-fA-F]{4})\2{3,}")
_SIGNS = re.compile(r"([\W_]{4})[\W_]+([\W_]{4})")
_MOST_MARKS = 2
_TAGS = range(0xE0020, 0xE007F)
"""Shown by no screen, but they carry text (`encodings`)."""


def remove_padding(text: str) -> str:
    """A text that every rule reads as it reads this one, and that has no more than a few signs between two letters.

    >>> without_padding("kill" + 500 * " " + "your\\u200bself"), without_padding("z . . . . . . . . . q")
    ('kill yourself', 'z . . . q')
    """
    shown = text if text.isascii() else _remove_invisible(text)
    single = _BLANKS.sub(lambda blanks: "\n" if "\n" in blanks[0] else " ", shown)
    seldom = _REPEATED.sub(lambda run: 3 * (run[1] or run[2]), single)
    return _SIGNS.sub(r"\1\2", seldom)


def _remove_invisible(text: str) -> str:
    """Without what no screen shows, and with a few accents at most on each letter."""
    kept: list[str] = []
    marks = 0
    for letter in text:
        category = unicodedata.category(letter)
        marks = marks + 1 if category == "Mn" else 0
        if marks <= _MOST_MARKS and (category != "Cf" or ord(letter) in _TAGS):
            kept.append(letter)
    return "".join(kept)
