"""Turns text into symbols of one byte each, so that RE2 sees what Python's `re` sees, and offsets stay as they are.

RE2 knows Unicode by bytes of UTF-8: `\\w` for letters of all scripts takes it 1,300 instructions, and an offset must be
counted back into characters. Here, ASCII characters are their own symbols, so ASCII text needs no work at all. A
character beyond ASCII is one of a few symbols: those that an expression names have their own, all others have that of
their kind (letter, decimal digit, white space, anything else). Which symbols a character class contains is decided by
`re` when the expression is compiled, one character at a time: `\\w \\d \\s` and case mean exactly what they mean there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache

from openapi_server.linear_regex.parser import IGNORECASE, LinearRegexError, list_members

EDGE = 256
"""The symbol that stands before the beginning and behind the end of a text, in masks alone."""
_FIRST_KIND, _FIRST_OWN = 0x80, 0x84
_LETTER, _DIGIT, _SPACE, _OTHER = range(_FIRST_KIND, _FIRST_OWN)
# Candidates for the character that stands for its kind; one that no expression names is taken.
_KINDS = {
    _LETTER: "\u4e00\u4e8c\u4e09\u56db",
    _DIGIT: "\u0663\u0669\u096c",
    _SPACE: "\u2003\u2002\u3000",
    _OTHER: "→←⇒☃",
}
_MAX_RANGE = 512
_MAX_KNOWN = 4_096
# Beside these, all case variants of an ASCII letter are ASCII letters.
_ASCII_VARIANTS = "\u0130\u0131\u017f\u212a"


class Alphabet:
    """The symbols for texts that are held against one expression, or several."""

    def __init__(self, own: str) -> None:
        """`own`: the characters beyond ASCII that have their own symbol, sorted."""
        if len(own) > 256 - _FIRST_OWN:
            raise LinearRegexError(f"more than {256 - _FIRST_OWN} characters beyond ASCII in one expression")
        self._symbols = {chr(code): code for code in range(_FIRST_KIND)}
        self._symbols |= {self._choose(candidates, own): kind for kind, candidates in _KINDS.items()}
        self._symbols |= {letter: _FIRST_OWN + at for at, letter in enumerate(own)}
        self._own = {ord(letter): _FIRST_OWN + at for at, letter in enumerate(own)}
        self._table = _Table(self._own)
        self._masks: dict[tuple[str, int], int] = {}

    @staticmethod
    def _choose(candidates: str, own: str) -> str:
        return next(letter for letter in candidates if letter not in own)

    def encode(self, text: str) -> bytes:
        """One byte for each character, whatever it is: also for half of a surrogate pair."""
        if text.isascii():
            return text.encode("ascii")
        if isinstance(text, PreparedText):
            encoded = text.encoded.get(self)
            if encoded is None:
                encoded = text.encoded[self] = self._translate(text)
            return encoded
        return self._translate(text)

    def _translate(self, text: str) -> bytes:
        if len(self._table) > _MAX_KNOWN:
            self._table = _Table(self._own)
        return text.translate(self._table).encode("latin-1")

    def get_mask(self, source: str, flags: int) -> int:
        """The set of symbols that a character, escape or class of `re` matches: bit n for symbol n."""
        key = (source, flags)
        if key not in self._masks:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    matches = re.compile(source, flags).match
            except re.error as error:
                raise LinearRegexError(f"{error.msg} in {source!r}") from None
            self._masks[key] = sum(1 << symbol for letter, symbol in self._symbols.items() if matches(letter))
        return self._masks[key]


class PreparedText(str):
    """A text that remembers how alphabets encode it: for text that is held against many expressions."""

    encoded: dict[Alphabet, bytes]

    def __new__(cls, text: str) -> PreparedText:
        prepared = super().__new__(cls, text)
        prepared.encoded = {}
        return prepared


class _Table(dict[int, int]):
    """For `str.translate`: looks up the kind of a character once."""

    def __init__(self, own: dict[int, int]) -> None:
        super().__init__({code: code for code in range(_FIRST_KIND)} | own)

    def __missing__(self, code: int) -> int:
        letter = chr(code)
        if letter.isdecimal():
            kind = _DIGIT
        elif letter.isalnum():
            kind = _LETTER
        else:
            kind = _SPACE if letter.isspace() else _OTHER
        self[code] = kind
        return kind


@cache
def get_alphabet(own: str) -> Alphabet:
    """Expressions that name the same characters share an alphabet, and so what a `PreparedText` remembers."""
    return Alphabet(own)


def list_own_characters(sources: Iterable[tuple[str, int]]) -> str:
    """The characters beyond ASCII that need their own symbol for these characters and classes with their flags."""
    own: set[str] = set()
    for source, flags in sources:
        if source in (".", r"\w", r"\d", r"\s", r"\W", r"\D", r"\S"):
            continue
        ignores_case = bool(flags & IGNORECASE)
        if ignores_case:
            own.update(_ASCII_VARIANTS)
        own.update(
            letter for each in _iterate_members(source) for letter in (_list_cases(each) if ignores_case else each)
        )
    return "".join(sorted(letter for letter in own if not letter.isascii()))


def _iterate_members(source: str) -> Iterator[str]:
    if source.isascii() and "\\x" not in source and "\\u" not in source and "\\U" not in source:
        return
    for first, last in list_members(source):
        low, high = max(ord(first), _FIRST_KIND), ord(last)
        if high - low >= _MAX_RANGE:
            raise LinearRegexError(f"a range of more than {_MAX_RANGE} characters beyond ASCII in {source!r}")
        yield from map(chr, range(low, high + 1))


def _list_cases(letter: str) -> set[str]:
    cases = {letter, letter.lower(), letter.upper(), letter.casefold(), letter.title()}
    cases |= {other for each in tuple(cases) for other in (each.lower(), each.upper())}
    return {each for each in cases if len(each) == 1}
