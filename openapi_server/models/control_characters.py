"""Control characters in text: what a terminal, a log or a parser may act on, and nobody can read."""

from __future__ import annotations

from openapi_server import linear_regex

# C0 but the tab and the line feed, DEL, C1 (U+0085, a line break for some and nothing for others, among them), and the
# two overrides of writing direction. The overrides show letters in another order than the one that rules are held
# against ("\u202ellik"); other marks of direction stay, for Arabic and Hebrew need them.
_REMOVED = linear_regex.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]")


def remove_control_characters(text: str) -> str:
    """The text without control characters other than tab and line feed, and without overrides of writing direction.

    >>> remove_control_characters("a\\x1b[31mb\\tc\\r\\nd")
    'a[31mb\\tc\\nd'
    """
    return _REMOVED.sub("", text) if _REMOVED.search(text) else text


def escape_control_characters(text: str) -> str:
    """The text with `\\u001b` in place of control characters: for terminals, and in JSON another way to write the same.

    >>> escape_control_characters("a\x1b[31mb")
    'a\\\\u001b[31mb'
    """
    return _REMOVED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def has_control_characters(text: str) -> bool:
    return _REMOVED.search(text) is not None
