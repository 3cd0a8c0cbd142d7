"""Printing to terminals: characters that their encoding lacks, and control characters in text from servers."""

from __future__ import annotations

import codecs
import io
import unicodedata
from typing import TextIO

ORNAMENTS = "✅🔄📊📋📡🔑❌⚠\N{VARIATION SELECTOR-16}"
FRAME_LINES = "═║╔╗╚╝"
_ERROR_HANDLER = "zoochat.plain"


def replace_unencodable(*streams: TextIO) -> None:
    """Let the streams replace characters that their encoding lacks, instead of raising `UnicodeEncodeError`."""
    codecs.register_error(_ERROR_HANDLER, _encode_plain)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERROR_HANDLER)


def replace_control_characters(text: str) -> str:
    """The text as one line without control characters, which could imitate other lines or command the terminal.

    >>> replace_control_characters("two\\nlines")
    'two?lines'
    """
    return "".join("?" if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    return character != "\t" and unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _encode_plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Frame lines become `=`, ornaments are left out, everything else is escaped as in a Python literal."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    if character in FRAME_LINES:
        return "=", after
    if character in ORNAMENTS:
        # The blank after an ornament is left out with it.
        return "", after + (error.object[after : after + 1] == " ")
    return character.encode("ascii", "backslashreplace").decode(), after
