"""Control characters in text: what a terminal, a log or a parser may act on, and nobody can read."""

from __future__ import annotations

from openapi_server import linear_regex

# C0 but the tab and the line feed, DEL, and C1 (U+0085, a line break for some and nothing for others, among them).
# Marks of writing direction and width are no controls but text, which is kept byte for byte: Arabic and Hebrew need it.
_REMOVED = linear_regex.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def remove_control_characters(text: str) -> str:
    """The text without control characters other than tab and line feed.

    >>> remove_control_characters("a\\x1b[31mb\\tc\\r\\nd")
    'a[31mb\\tc\\nd'
    """
    # Each piece of a reply comes by, and nearly all of them can be printed, which is seen in a tenth of the time.
    return text if text.isprintable() or not _REMOVED.search(text) else _REMOVED.sub("", text)


def escape_control_characters(text: str) -> str:
    """The text with `\\u001b` in place of control characters: for terminals, and in JSON another way to write the same.

    >>> escape_control_characters("a\x1b[31mb")
    'a\\\\u001b[31mb'
    """
    return _REMOVED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def has_control_characters(text: str) -> bool:
    return _REMOVED.search(text) is not None
