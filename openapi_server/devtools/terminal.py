"""Terminals that cannot show every character: our ornaments fall away there, and what others wrote is escaped."""

from __future__ import annotations

import codecs
import io
import unicodedata
from typing import TextIO

ORNAMENTS = "✅🔄📊📋📡🔑❌⚠\N{VARIATION SELECTOR-16}"
FRAME_LINES = "═║╔╗╚╝"
_ERROR_HANDLER = "zoochat.plain"


def replace_unencodable(*streams: TextIO) -> None:
    """From now on the streams never fail for a character that their encoding lacks."""
    codecs.register_error(_ERROR_HANDLER, _encode_plain)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERROR_HANDLER)


def escape_control_characters(text: str) -> str:
    """Text from outside as one line that can neither forge another nor command the terminal.

    >>> escape_control_characters("two\\nlines")
    'two?lines'
    """
    return "".join("?" if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    return character != "\t" and unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _encode_plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    if character in FRAME_LINES:
        return "=", after
    if character in ORNAMENTS:
        # The blank behind an ornament goes with it.
        return "", after + (error.object[after : after + 1] == " ")
    return character.encode("ascii", "backslashreplace").decode(), after
