"""Text as the offline provider compares it, and the greeting in front of it."""

from __future__ import annotations

import unicodedata

from openapi_server import linear_regex

# The part of a message that is parsed.
MAX_CHARS = 1_000

_HELLO = (
    r"(?:hi+|hello+|hey+|heya|hiya|hallo|howdy|yo|hola|good (?:morning|afternoon|evening|day)|greetings|morning)"
    r"(?: there| again)?"
)
GREETING = linear_regex.compile(rf"{_HELLO}(?: {_HELLO})*(?: |$)")
_WORD = linear_regex.compile(r"[^\W_]+")
# For bytes of ASCII: each that is no letter and no digit ends a word.
_WORD_BYTES = bytes(code if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256)).lower()


def simplify_text(text: str) -> str:
    """The words in lower case, without accents and punctuation, joined by spaces.

    >>> simplify_text("What's THAT?!")
    'whats that'
    """
    text = text[:MAX_CHARS]
    if text.isascii():
        return " ".join(text.encode("ascii").translate(_WORD_BYTES, b"'`").decode("ascii").split())
    letters = unicodedata.normalize("NFKD", text).lower()
    letters = "".join(letter for letter in letters if letter not in "'’`" and not unicodedata.combining(letter))
    return " ".join(_WORD.findall(letters))
