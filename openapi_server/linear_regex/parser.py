"""Reads regular expressions in the syntax of Python's `re` into trees. The time is linear in the expression.

A tree's leaves are sets of symbols (`alphabet.py`), as bit masks. The syntax that RE2 cannot have (back-references,
atomic groups, conditions) is refused with `LinearRegexError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn, TypeAlias

IGNORECASE, MULTILINE, DOTALL = int(re.IGNORECASE), int(re.MULTILINE), int(re.DOTALL)
_FLAGS = {"i": IGNORECASE, "m": MULTILINE, "s": DOTALL}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_COUNTS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_REPETITIONS = ("*", "+", "?", "{")
_PLAIN = re.compile(r"[^()\[\\^$.*+?{|]+")
_MAX_REPETITIONS = 1000


class LinearRegexError(ValueError):
    """The expression is wrong, or cannot be matched in linear time. The text says why, and where."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """One symbol of a set."""

    mask: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A place between two symbols: `^`, `$`, `A`, `Z`, `b` or `B`."""

    kind: str
    is_multiline: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """A look-ahead or look-behind."""

    body: Alternatives
    is_ahead: bool
    is_negative: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives. `number`: that of a capturing group, from 1."""

    body: Alternatives
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """An item `least` to `most` times (None: any number of times)."""

    item: Item
    least: int
    most: int | None
    is_lazy: bool = False


Item: TypeAlias = Symbols | Edge | Look | Group | Repeat
Sequence: TypeAlias = tuple[Item, ...]
Alternatives: TypeAlias = tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed expression. `groups`: the number of its capturing groups; `names`: the numbers of the named ones."""

    body: Alternatives
    groups: int
    names: dict[str, int]


def parse(source: str, flags: int, get_symbols: Callable[[str, int], Symbols]) -> Tree:
    """The tree of an expression. `get_symbols` is asked for each character, escape or class, with its flags."""
    parser = _Parser(source, flags, get_symbols)
    body = parser.parse_alternatives()
    if parser.at < len(source):
        parser.fail("unbalanced parenthesis")
    return Tree(body, parser.groups, parser.names)


def list_members(source: str) -> list[tuple[str, str]]:
    """The characters of a character, escape or class, as ranges (first, last), without those of `\\w` and the like."""
    if not source.startswith("["):
        found = _read_character(source, 0)[0]
        return [(found, found)] if found is not None else []
    ranges: list[tuple[str, str]] = []
    at, end = (2 if source.startswith("[^") else 1), len(source) - 1
    while at < end:
        first, at = _read_character(source, at)
        if first is not None and source[at] == "-" and at + 1 < end:
            last, at = _read_character(source, at + 1)
            ranges.append((first, last or first))
        elif first is not None:
            ranges.append((first, first))
    return ranges


def _read_character(source: str, at: int) -> tuple[str | None, int]:
    """The character at a position, which may be an escape, and the position behind it; None for a shorthand."""
    if source[at] != "\\":
        return source[at], at + 1
    letter = source[at + 1]
    if letter in _HEX_DIGITS:
        end = at + 2 + _HEX_DIGITS[letter]
        return chr(int(source[at + 2 : end], 16)), end
    if letter in "dDsSwW":
        return None, at + 2
    return _CONTROLS.get(letter, letter), at + 2


class _Parser:
    def __init__(self, source: str, flags: int, get_symbols: Callable[[str, int], Symbols]) -> None:
        self.source = source
        self.at = 0
        self.groups = 0
        self.names: dict[str, int] = {}
        self._flags = flags
        self._get_symbols = get_symbols

    def fail(self, reason: str) -> NoReturn:
        raise LinearRegexError(f"{reason} at position {self.at} of {self.source!r}")

    def parse_alternatives(self) -> Alternatives:
        """Up to the end, or to the bracket that closes a group."""
        source = self.source
        branches: list[Sequence] = []
        items: list[Item] = []
        while self.at < len(source) and source[self.at] != ")":
            if self._take("|"):
                branches.append(tuple(items))
                items = []
                continue
            if plain := _PLAIN.match(source, self.at):
                # Most of an expression is words. What is repeated is the last letter.
                self.at = plain.end()
                items += [self._get_symbols(letter, self._flags) for letter in plain[0]]
            elif (item := self._parse_item()) is not None:
                items.append(item)
            else:
                continue
            if source.startswith(_REPETITIONS, self.at):
                items[-1] = self._parse_repetition(items[-1])
        return (*branches, tuple(items))

    def _take(self, text: str) -> bool:
        if self.source.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def _take_until(self, end: str) -> str:
        stop = self.source.find(end, self.at)
        if stop < 0:
            self.fail(f"missing {end}")
        taken, self.at = self.source[self.at : stop], stop + len(end)
        return taken

    def _parse_item(self) -> Item | None:
        letter = self.source[self.at]
        if letter == "(":
            return self._parse_group()
        if letter == "[":
            return self._parse_class()
        if letter == "\\":
            return self._parse_escape()
        if letter in "*+?":
            self.fail("nothing to repeat")
        self.at += 1
        if letter in "^$":
            return Edge(letter, bool(self._flags & MULTILINE))
        return self._get_symbols(letter, self._flags)

    def _parse_escape(self) -> Item:
        letter = self.source[self.at + 1 : self.at + 2]
        if letter and letter in "bBAZ":
            self.at += 2
            return Edge(letter)
        if letter.isdigit() and letter != "0":
            self.fail("back-references need backtracking")
        if not letter or (letter.isalpha() and letter not in "dDsSwWntrfvaxuU"):
            self.fail("unknown escape")
        try:
            _, end = _read_character(self.source, self.at)
        except ValueError:
            self.fail("unknown escape")
        source, self.at = self.source[self.at : end], end
        return self._get_symbols(source, self._flags)

    def _parse_class(self) -> Symbols:
        start = self.at
        self.at += 1
        self._take("^")
        self._take("]")
        while not self._take("]"):
            if self.at >= len(self.source):
                self.fail("unterminated character set")
            self.at += 2 if self.source[self.at] == "\\" else 1
        return self._get_symbols(self.source[start : self.at], self._flags)

    def _parse_group(self) -> Item | None:
        self.at += 1
        outside = self._flags
        number: int | None = None
        look: Look | None = None
        if self._take("?P<"):
            number = self._open_group(self._take_until(">"))
        elif self._take("?"):
            look = self._parse_look()
            if look is None and self._parse_flags():
                return None
        else:
            number = self._open_group()
        body = self.parse_alternatives()
        if not self._take(")"):
            self.fail("missing ), unterminated subpattern")
        self._flags = outside
        return replace(look, body=body) if look else Group(body, number)

    def _open_group(self, name: str | None = None) -> int:
        self.groups += 1
        if name is not None:
            if name in self.names:
                self.fail(f"the group {name!r} is there twice")
            self.names[name] = self.groups
        return self.groups

    def _parse_look(self) -> Look | None:
        for opening, is_ahead, is_negative in (
            ("=", True, False),
            ("!", True, True),
            ("<=", False, False),
            ("<!", False, True),
        ):
            if self._take(opening):
                return Look((), is_ahead, is_negative)
        return None

    def _parse_flags(self) -> bool:
        """Flags of the group that begins, or, True, of all that follows."""
        is_on = True
        while self.at < len(self.source):
            letter = self.source[self.at]
            self.at += 1
            if letter == ":":
                return False
            if letter == ")":
                return True
            if letter == "-":
                is_on = False
            elif letter in _FLAGS:
                self._flags = self._flags | _FLAGS[letter] if is_on else self._flags & ~_FLAGS[letter]
            elif letter != "u":
                self.fail("unknown or backtracking extension")
        raise LinearRegexError(f"unterminated flags in {self.source!r}")

    def _parse_repetition(self, item: Item) -> Item:
        counts = self._parse_counts()
        if counts is None:
            return item
        if isinstance(item, Edge | Look):
            self.fail("an edge or look-around cannot be repeated")
        is_lazy = self._take("?")
        if self.source.startswith(("+", "*", "?"), self.at) or self._parse_counts() is not None:
            self.fail("multiple repeat, or a possessive one")
        return Repeat(item, *counts, is_lazy)

    def _parse_counts(self) -> tuple[int, int | None] | None:
        sign = self.source[self.at : self.at + 1]
        if sign not in _REPETITIONS:
            return None
        self.at += 1
        if sign in _COUNTS:
            return _COUNTS[sign]
        stop = self.source.find("}", self.at)
        least, comma, most = self.source[self.at : max(stop, self.at)].partition(",")
        is_range = stop >= 0 and (comma or least) and all(not part or part.isdecimal() for part in (least, most))
        if not is_range or (not least and not most):
            # As in `re`, a brace that begins no repetition is a brace.
            self.at -= 1
            return None
        self.at = stop + 1
        low = int(least or 0)
        high = low if not comma else int(most) if most else None
        if max(low, high or 0) > _MAX_REPETITIONS or (high is not None and high < low):
            self.fail(f"repetitions must be at most {_MAX_REPETITIONS}, and in order")
        return low, high
