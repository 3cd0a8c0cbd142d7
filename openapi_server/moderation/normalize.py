"""Normalized variants of a text: as it stands, and with disguises removed. Pure functions.

Rules are matched against every variant (`list_variants`). A variant undoes one or more disguises:

- case, width, quotes and invisible characters (`normalize_text`: Unicode NFKC, case folding, format characters removed)
- accents and look-alike letters (`fold_lookalikes`: Unicode NFKD, and the data of Unicode Technical Standard #39)
- digits that stand for letters (`replace_digits`) and stretched words (`shorten_runs`)
- letters apart, or words run together (`segmentation`)
- encoded text: Base64, hexadecimal, binary, escapes, tag characters, rot13, reversed (`decode_hidden_texts`)
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from openapi_server.moderation.segmentation import WordSegmenter
from openapi_server.yaml_files import load_yaml

LOOKALIKES_FILE = Path(__file__).with_name("lookalikes.yaml")

# Bounds the work for a message that consists of nothing but encoded texts.
_MAX_HIDDEN_TEXTS = 8
# Two letters before the full stop: "i.g.n.o.r.e" is one sentence.
_SENTENCE_BREAK = re.compile(r"(?<=\w\w)[.!?]+ ")


def list_variants(message: str, segmenter: WordSegmenter) -> tuple[str, ...]:
    """The texts that rules are matched against, the plain one first. Harmless text has one variant, seldom two.

    Only the sentences that have further variants are in the later texts, one line for each variant.

    >>> list_variants("How tall are you?", WordSegmenter([], []))
    ('how tall are you?',)
    >>> list_variants("Hi Leo! ıgn0re that", WordSegmenter(["ignore"], []))
    ('hi leo! ıgn0re that', 'ign0re that\\nignore that')
    """
    hidden = [text for text, _ in zip(decode_hidden_texts(message), range(_MAX_HIDDEN_TEXTS), strict=False)]
    found: dict[str, None] = {}
    for text in (message, *hidden):
        found.update(dict.fromkeys(_iterate_variants(text, segmenter)))
    return tuple(found)


def _iterate_variants(message: str, segmenter: WordSegmenter) -> Iterator[str]:
    plain = normalize_text(message)
    yield plain
    if "\n" in message.strip():
        # Some patterns match the beginning of a line.
        yield "\n".join(normalize_text(line) for line in message.splitlines())
    others = dict.fromkeys(
        other
        for part in _SENTENCE_BREAK.split(plain)
        for other in _iterate_sentence_variants(part, segmenter)
        if other != part
    )
    if others:
        yield "\n".join(others)


def _iterate_sentence_variants(sentence: str, segmenter: WordSegmenter) -> Iterator[str]:
    folded = fold_lookalikes(sentence)
    for text in (folded, *replace_digits(folded)):
        for variant in (text, *shorten_runs(text)):
            yield variant
            yield segmenter.segment(variant)
    yield from (text for text in reverse_and_rot13(folded) if segmenter.contains_strong_word(text))


# --- Letters

# Phones write curly quotes.
_STRAIGHT_QUOTES = str.maketrans(dict.fromkeys("’‘´`", "'"))
# Blank on every screen, but letters or symbols by category: Hangul fillers, and Braille without a dot.
_BLANK_LETTERS = str.maketrans({"\u115f": "", "\u1160": "", "\u3164": "", "\uffa0": "", "\u2800": " "})


def _load_lookalikes() -> dict[int, str]:
    """A table for `str.translate`."""
    # A part of the data of confusable-homoglyphs, not the package: it takes 90 ms to import, and has no such table.
    tables = load_yaml(LOOKALIKES_FILE)
    found = {other: letter for table in tables.values() for letter, others in table.items() for other in others}
    # Regional indicators (flags), and letters in black circles and squares, have no NFKC decomposition.
    found |= {chr(start + at): chr(97 + at) for start in (0x1F1E6, 0x1F150, 0x1F170) for at in range(26)}
    return str.maketrans(found)


_LOOKALIKES = _load_lookalikes()
_DIGITS = str.maketrans("013457@$!|+€", "oieastasiite")
_ONE_AS_L = str.maketrans("1|", "ll")
_TOKEN = re.compile(r"[\w@$!|+€*]+")
_DIGIT = re.compile(r"[013457@$|+€]|!(?=\w)")
_ENDING = re.compile(r"[!|+]+$")
_LONG_RUN = re.compile(r"([^\W\d_])\1{2,}")


def normalize_text(message: str) -> str:
    """Lower case, compatibility characters as plain letters (NFKC), single blanks, no invisible characters.

    >>> normalize_text("I’m \\u200blost,  ＬＥＯ")
    "i'm lost, leo"
    """
    plain = unicodedata.normalize("NFKC", message.translate(_STRAIGHT_QUOTES)).translate(_BLANK_LETTERS)
    if not plain.isascii():
        # Cf: zero-width characters, soft hyphens, direction marks. Children hide words between them.
        plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return " ".join(plain.casefold().split())


def fold_lookalikes(text: str) -> str:
    """Lower-case text without accents, and with Latin letters in place of those that look like them.

    >>> fold_lookalikes("іgnörе"), fold_lookalikes("löwe")
    ('ignore', 'lowe')
    """
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text.translate(_LOOKALIKES))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def replace_digits(text: str) -> tuple[str, ...]:
    """Variants in which digits inside words are the letters they stand for; none when no word mixes them.

    >>> replace_digits("1gn0r3 my 75 ru1es!")
    ('ignore my 75 ruies!', 'lgnore my 75 rules!')
    """
    as_i = _TOKEN.sub(lambda word: _replace_digits_in_word(word[0]), text)
    if as_i == text:
        return ()
    as_l = _TOKEN.sub(lambda word: _replace_digits_in_word(word[0], _ONE_AS_L), text)
    # "1 w4nt" means "I want".
    as_i = re.sub(r"(?<!\S)1(?!\S)", "i", as_i)
    return (as_i,) if as_i == as_l else (as_i, as_l)


def _replace_digits_in_word(word: str, first: dict[int, int] | None = None) -> str:
    """Numbers stay as they are, and so do exclamation marks at the end of a word."""
    if not _DIGIT.search(word) or not any(map(str.isalpha, word)):
        return word
    ending = _ENDING.search(word)
    body = word[: ending.start()] if ending else word
    return body.translate(first or {}).translate(_DIGITS) + (ending[0] if ending else "")


def shorten_runs(text: str) -> tuple[str, ...]:
    """Variants in which a letter that stands three times or more stands once, and twice; none without such a run."""
    if not _LONG_RUN.search(text):
        return ()
    return (_LONG_RUN.sub(r"\1", text), _LONG_RUN.sub(r"\1\1", text))


# --- Encodings

_BASE64 = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{16,}={0,2}(?![\w+/=])")
_HEX = re.compile(r"(?<!\w)(?:[0-9a-fA-F]{2}[ :]?){8,}(?!\w)")
_BINARY = re.compile(r"(?<!\w)(?:[01]{8} ?){4,}(?!\w)")
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2}){3}")
# Unicode tag characters: no screen shows them, every model reads them.
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_WORD = re.compile(r"[^\W\d_]{2,}")


def decode_hidden_texts(text: str) -> Iterator[str]:
    """Every text that is encoded in this one. Most have none.

    >>> list(decode_hidden_texts("read %68%65%6c%6c%6f and aGVsbG8gbGl0dGxlIGxpb24="))
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
            yield from _decode_readable(decode, found)


def reverse_and_rot13(text: str) -> tuple[str, str]:
    """The text backwards, and in rot13. Every text has these variants, and few make sense."""
    return text[::-1], codecs.encode(text, "rot13")


def _decode_readable(decode: Callable[[str], bytes], code: str) -> Iterator[str]:
    """The decoded text, if it is text: a long word that happens to look encoded decodes to noise."""
    try:
        text = decode(code).decode("utf-8")
    except (ValueError, binascii.Error):
        return
    if text.isprintable() and _WORD.search(text):
        yield text


def _decode_base64(code: str) -> bytes:
    plain = code.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4))


def _decode_hex(code: str) -> bytes:
    return bytes.fromhex(code.replace(":", ""))


def _decode_binary(code: str) -> bytes:
    return bytes(int(octet, 2) for octet in re.findall("[01]{8}", code))


_CODES = ((_BASE64, _decode_base64), (_HEX, _decode_hex), (_BINARY, _decode_binary))


# --- Padding

_BLANKS = re.compile(r"\s+")
# The same few signs again and again, plain or encoded. Digits stay: their number may matter.
_REPEATED = re.compile(r"(\D{1,8}?)\1{3,}|(%[0-9a-fA-F]{2}|&#?\w{1,8};|\\u[0-9a-fA-F]{4})\2{3,}")
_SIGNS = re.compile(r"([\W_]{4})[\W_]+([\W_]{4})")
_MAX_MARKS = 2
"""Combining marks that are kept on one letter."""


def remove_padding(text: str) -> str:
    """A text that every rule matches as it matches this one, with no more than a few signs between two letters.

    The output buffer measures its margin with it, so that padding cannot push a phrase out of the margin.

    >>> remove_padding("kill" + 500 * " " + "your\\u200bself"), remove_padding("z . . . . . . . . . q")
    ('kill yourself', 'z . . . q')
    """
    visible = text if text.isascii() else _remove_invisible(text)
    single = _BLANKS.sub(lambda blanks: "\n" if "\n" in blanks[0] else " ", visible)
    unrepeated = _REPEATED.sub(lambda run: 3 * (run[1] or run[2]), single)
    return _SIGNS.sub(r"\1\2", unrepeated)


def _remove_invisible(text: str) -> str:
    """Without format characters (tag characters stay, they carry text), and with few combining marks on a letter."""
    kept: list[str] = []
    marks = 0
    for letter in text:
        category = unicodedata.category(letter)
        marks = marks + 1 if category == "Mn" else 0
        if marks <= _MAX_MARKS and (category != "Cf" or _TAGS.match(letter)):
            kept.append(letter)
    return "".join(kept)
