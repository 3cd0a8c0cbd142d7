"""Text inside text: what a mind could be asked to decode, decoded before it gets to see it."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import urllib.parse
from collections.abc import Callable, Iterator

_BASE64 = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{16,}={0,2}(?![\w+/=])")
_HEX = re.compile(r"(?<!\w)(?:[0-9a-fA-F]{2}[ :]?){8,}(?!\w)")
_BINARY = re.compile(r"(?<!\w)(?:[01]{8} ?){4,}(?!\w)")
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2}){3}")
# Letters of the block of tags: shown by no screen, read by every mind.
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_WORD = re.compile(r"[^\W\d_]{2,}")


def decode_hidden_texts(text: str) -> Iterator[str]:
    """Every text that is hidden in this one. Most have none.

    >>> list(decoded("read %68%65%6c%6c%6f and aGVsbG8gbGl0dGxlIGxpb24="))
    ['read hello and aGVsbG8gbGl0dGxlIGxpb24=', 'hello little lion']
    """
    if _ESCAPES.search(text):
        yield _ESCAPES.sub(lambda escape: chr(int(escape[1] or escape[2], 16)), text)
    if _PERCENT.search(text):
        yield urllib.parse.unquote(text, errors="replace")
    if "&" in text and (unescaped := html.unescape(text)) != text:
        yield unescaped
    for tags in _TAGS.findall(text):
        yield "".join(chr(ord(letter) - 0xE0000) for letter in tags)
    for pattern, decode in _CODES:
        for found in pattern.findall(text):
            yield from _readable(decode, found)


def reverse_and_rot13(text: str) -> tuple[str, str]:
    """The text backwards, and in rot13: every text has these readings, and few make sense."""
    return text[::-1], codecs.encode(text, "rot13")


def _readable(decode: Callable[[str], bytes], code: str) -> Iterator[str]:
    """The decoded text, if it is one: a long word that happens to look like code decodes to noise."""
    try:
        text = decode(code).decode("utf-8")
    except (ValueError, binascii.Error):
        return
    if text.isprintable() and _WORD.search(text):
        yield text


def _from_base64(code: str) -> bytes:
    plain = code.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4))


def _from_hex(code: str) -> bytes:
    return bytes.fromhex(code.replace(":", ""))


def _from_binary(code: str) -> bytes:
    return bytes(int(octet, 2) for octet in re.findall("[01]{8}", code))


_CODES = ((_BASE64, _from_base64), (_HEX, _from_hex), (_BINARY, _from_binary))
