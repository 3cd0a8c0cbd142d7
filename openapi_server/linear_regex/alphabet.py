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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

from openapi_server.linear_regex.parser import IGNORECASE, LinearRegexError, Symbols, list_members, parse

EDGE = 256
"""The symbol that stands before the beginning and behind the end of a text, in masks alone."""
_FIRST_KIND, _FIRST_OWN = 0x80, 0x84
_LETTER, _DIGIT, _SPACE, _OTHER = range(_FIRST_KIND, _FIRST_OWN)
# Characters that stand for all of their kind, as far as no expression names them.
_KINDS = {_LETTER: "\u4e00\u4e8c\u00aa", _DIGIT: "\u0663\u096c", _SPACE: "\u2003\u3000", _OTHER: "→☃\ue000"}
_SHORTHANDS = (r"\w", r"\d", r"\s", r"\W", r"\D", r"\S")
# An escape by number, or that case is ignored from here on.
_MAY_NAME = re.compile(r"\\[xuU]|\(\?[a-z]*i")
_ANY = Symbols(0)
_MAX_RANGE = 100
_MAX_KNOWN = 4_096
_LAST_CODE = 0x10FFFF
# All other case variants of ASCII letters are ASCII letters.
_CASES_BEYOND_ASCII = {"i": "\u0130\u0131", "s": "\u017f", "k": "\u212a"}
_ASCII_VARIANTS = "".join(_CASES_BEYOND_ASCII.values())


@dataclass(frozen=True, slots=True)
class Names:
    """The characters beyond ASCII that expressions name: single ones, sorted, and long ranges, which do not overlap."""

    own: str = ""
    ranges: tuple[tuple[int, int], ...] = ()

    def list_neighbours(self) -> list[str]:
        """Characters beside the ranges that have no name."""
        beside = (
            code for low, high in self.ranges for code in (low - 1, high + 1) if _FIRST_KIND <= code <= _LAST_CODE
        )
        return [chr(code) for code in beside if not self._includes(code)]

    def _includes(self, code: int) -> bool:
        return chr(code) in self.own or any(low <= code <= high for low, high in self.ranges)


class Alphabet:
    """The symbols for texts that are held against one expression, or several."""

    def __init__(self, names: Names) -> None:
        """Each of the named characters and ranges has its own symbol."""
        if len(names.own) + len(names.ranges) > 256 - _FIRST_OWN:
            raise LinearRegexError(f"more than {256 - _FIRST_OWN} characters beyond ASCII in one expression")
        # A character for each symbol.
        self._symbols = {chr(code): code for code in range(_FIRST_KIND)}
        if names.ranges:
            self._symbols |= dict.fromkeys(names.list_neighbours(), _OTHER)
        else:
            self._symbols |= {letter: kind for kind, letters in _KINDS.items() for letter in letters}
        own = {letter: _FIRST_OWN + at for at, letter in enumerate(names.own)}
        ranges = [(low, high, _FIRST_OWN + len(own) + at) for at, (low, high) in enumerate(names.ranges)]
        for low, high, symbol in ranges:
            self._symbols[next(letter for letter in map(chr, range(low, high + 1)) if letter not in own)] = symbol
        self._symbols |= own
        self._make_table = partial(_Table, {ord(letter): symbol for letter, symbol in own.items()}, ranges)
        self._table = self._make_table()
        self._by_source: dict[tuple[str, int], Symbols] = {}

    def encode(self, text: str) -> bytes:
        """One byte for each character, whatever it is: also for half of a surrogate pair."""
        if not isinstance(text, PreparedText):
            return self._encode(text)
        encoded = text.encoded.get(self)
        if encoded is None:
            encoded = text.encoded[self] = self._encode(text)
        return encoded

    def _encode(self, text: str) -> bytes:
        if text.isascii():
            return text.encode("ascii")
        if len(self._table) > _MAX_KNOWN:
            self._table = self._make_table()
        return text.translate(self._table).encode("latin-1")

    def get_symbols(self, source: str, flags: int) -> Symbols:
        """The symbols that a character, escape or class of `re` matches."""
        key = (source, flags)
        symbols = self._by_source.get(key)
        if symbols is None:
            symbols = self._by_source[key] = Symbols(self._find_mask(source, flags))
        return symbols

    def _find_mask(self, source: str, flags: int) -> int:
        is_literal = len(source) == 1 and source != "."
        if is_literal and source.isascii():
            # Most of an expression, so it must be fast.
            cases = {source, *_list_ascii_cases(source)} if flags & IGNORECASE else {source}
            return sum(1 << self._symbols[case] for case in cases if case in self._symbols)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                matches = re.compile(re.escape(source) if is_literal else source, flags).match
        except re.error as error:
            raise LinearRegexError(f"{error.msg} in {source!r}") from None
        mask = 0
        for letter, symbol in self._symbols.items():
            if matches(letter):
                mask |= 1 << symbol
        return mask


class PreparedText(str):
    """A text that remembers how alphabets encode it: for text that is held against many expressions."""

    encoded: dict[Alphabet, bytes]

    def __new__(cls, text: str) -> PreparedText:
        prepared = super().__new__(cls, text)
        prepared.encoded = {}
        return prepared


class _Table(dict[int, int]):
    """For `str.translate`: looks up the kind of a character once."""

    def __init__(self, own: dict[int, int], ranges: Sequence[tuple[int, int, int]]) -> None:
        super().__init__({code: code for code in range(_FIRST_KIND)} | own)
        self._ranges = ranges

    def __missing__(self, code: int) -> int:
        if self._ranges:
            # Nothing else is told apart (`list_names`).
            symbol = next((symbol for low, high, symbol in self._ranges if low <= code <= high), _OTHER)
        else:
            symbol = _find_kind(chr(code))
        self[code] = symbol
        return symbol


def _find_kind(letter: str) -> int:
    if letter.isdecimal():
        return _DIGIT
    if letter.isalnum():
        return _LETTER
    return _SPACE if letter.isspace() else _OTHER


@cache
def get_alphabet(names: Names) -> Alphabet:
    """Expressions that name the same characters share an alphabet, and so what a `PreparedText` remembers."""
    return Alphabet(names)


def list_names(expressions: Iterable[tuple[str, int]]) -> Names:
    """The characters that expressions with these flags name. Most name none, and need not be parsed for that."""
    expressions = tuple(expressions)
    leaves = _list_leaves(each for each in expressions if _may_name(each[0]))
    if any(flags & IGNORECASE for _, flags in expressions):
        leaves["a", IGNORECASE] = None
    names = _list_named(leaves)
    # What the others match matters only beside long ranges.
    return _list_named(_list_leaves(expressions)) if names.ranges else names


def _list_leaves(expressions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], None]:
    """The characters, escapes and classes of expressions, each with its flags."""
    leaves: dict[tuple[str, int], None] = {}

    def note(source: str, flags: int) -> Symbols:
        leaves[source, flags] = None
        return _ANY

    for source, flags in expressions:
        parse(source, flags, note)
    return leaves


def _list_named(leaves: Iterable[tuple[str, int]]) -> Names:
    own: set[str] = set()
    ranges: set[tuple[int, int]] = set()
    has_kinds = False
    for source, flags in leaves:
        has_kinds |= any(shorthand in source for shorthand in _SHORTHANDS)
        ignores_case = bool(flags & IGNORECASE)
        if ignores_case:
            own.update(_ASCII_VARIANTS)
        if not _may_name(source):
            continue
        for first, last in list_members(source):
            low, high = max(ord(first), _FIRST_KIND), ord(last)
            if high - low >= _MAX_RANGE:
                ranges.add((low, high))
                has_kinds |= ignores_case
            else:
                letters = map(chr, range(low, high + 1))
                own.update(case for letter in letters for case in (_list_cases(letter) if ignores_case else letter))
    if ranges and has_kinds:
        raise LinearRegexError(f"a range of more than {_MAX_RANGE} characters beside \\w, \\d, \\s or IGNORECASE")
    return Names("".join(sorted(letter for letter in own if not letter.isascii())), _divide(ranges))


def _may_name(source: str) -> bool:
    return not source.isascii() or _MAY_NAME.search(source) is not None


def _divide(ranges: set[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The ranges in parts that do not overlap."""
    bounds = sorted({bound for low, high in ranges for bound in (low, high + 1)})
    parts = ((low, end - 1) for low, end in pairwise(bounds))
    return tuple(part for part in parts if any(low <= part[0] and part[1] <= high for low, high in ranges))


def _list_ascii_cases(letter: str) -> set[str]:
    return {letter.lower(), letter.upper(), *_CASES_BEYOND_ASCII.get(letter.lower(), "")}


def _list_cases(letter: str) -> set[str]:
    cases = {letter, letter.lower(), letter.upper(), letter.casefold(), letter.title()}
    cases |= {other for each in tuple(cases) for other in (each.lower(), each.upper())}
    return {each for each in cases if len(each) == 1}
