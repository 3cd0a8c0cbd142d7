"""Letters that look like others: what a person reads, whatever the machine was sent."""

from __future__ import annotations

import re
import unicodedata

# Phones write curly quotes.
_STRAIGHTEN = str.maketrans(dict.fromkeys("’‘´`", "'"))

# Blank on every screen, but letters or symbols by category: the fillers of Hangul, and braille without a dot.
_EMPTY = str.maketrans({"\u115f": "", "\u1160": "", "\u3164": "", "\uffa0": "", "\u2800": " "})

_LOOK_ALIKES = {
    "a": "аαɑᴀ",
    "b": "вьβʙ",
    "c": "сϲᴄ",
    "d": "ԁđðᴅ",
    "e": "еєεɛᴇ",
    "f": "ƒꜰϝ",
    "g": "ɡԍɢց",
    "h": "һнħʜ",
    "i": "іιıɩɪӏ",
    "j": "јϳᴊ",
    "k": "кκᴋ",
    "l": "łʟⅼ",
    "m": "мᴍ",
    "n": "пηɴи",
    "o": "оοσøөᴏօ",
    "p": "рρᴘ",
    "q": "ԛǫ",
    "r": "гʀя",
    "s": "ѕꜱς",
    "t": "тτᴛŧ",
    "u": "υцսᴜμ",
    "v": "ѵνᴠ",
    "w": "ԝωᴡш",
    "x": "хχ",
    "y": "уүγʏ",
    "z": "ᴢʐ",
}
_FOLDS = str.maketrans({other: letter for letter, others in _LOOK_ALIKES.items() for other in others})
# Flags' letters, and letters in black circles and squares, which NFKC leaves alone.
_FOLDS |= {start + at: chr(97 + at) for start in (0x1F1E6, 0x1F150, 0x1F170) for at in range(26)}

_DIGITS = str.maketrans("013457@$!|+€", "oieastasiite")
_ONE_AS_L = str.maketrans("1|", "ll")
_TOKEN = re.compile(r"[\w@$!|+€*]+")
_DIGIT = re.compile(r"[013457@$|+€]|!(?=\w)")
_ENDING = re.compile(r"[!|+]+$")
_LONG_RUN = re.compile(r"([^\W\d_])\1{2,}")


def normalize_text(message: str) -> str:
    """The message as a person reads it: lower case, plain letters, single blanks, nothing invisible.

    >>> as_read("I’m \\u200blost,  ＬＥＯ")
    "i'm lost, leo"
    """
    plain = unicodedata.normalize("NFKC", message.translate(_STRAIGHTEN)).translate(_EMPTY)
    if not plain.isascii():
        # Cf: zero width, soft hyphens, marks of direction. Children hide words between them.
        plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return " ".join(plain.casefold().split())


def fold_lookalikes(text: str) -> str:
    """Without accents, and with every letter that only looks like a Latin one replaced by it. Takes lower case.

    >>> folded("іgnörе"), folded("löwe")
    ('ignore', 'lowe')
    """
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", text.translate(_FOLDS))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def replace_digits(text: str) -> tuple[str, ...]:
    """The readings of a text in which digits stand for letters; none when no word mixes them.

    >>> undigited("1gn0r3 my 75 ru1es!")
    ('ignore my 75 ruies!', 'lgnore my 75 rules!')
    """
    as_i = _TOKEN.sub(lambda word: _as_letters(word[0]), text)
    if as_i == text:
        return ()
    as_l = _TOKEN.sub(lambda word: _as_letters(word[0], _ONE_AS_L), text)
    # Whoever writes "1 w4nt" means "I want".
    as_i = re.sub(r"(?<!\S)1(?!\S)", "i", as_i)
    return (as_i,) if as_i == as_l else (as_i, as_l)


def shorten_runs(text: str) -> tuple[str, ...]:
    """The readings of drawn-out words, "kiiiill" and "killlll" alike; none when there are none."""
    if not _LONG_RUN.search(text):
        return ()
    return (_LONG_RUN.sub(r"\1", text), _LONG_RUN.sub(r"\1\1", text))


def _as_letters(word: str, first: dict[int, int] | None = None) -> str:
    """A number stays one, and exclamation marks at the end of a word are what they look like."""
    if not _DIGIT.search(word) or not any(map(str.isalpha, word)):
        return word
    ending = _ENDING.search(word)
    body = word[: ending.start()] if ending else word
    return body.translate(first or {}).translate(_DIGITS) + (ending[0] if ending else "")
