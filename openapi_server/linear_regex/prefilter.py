"""Tells which of many expressions can match in a text, by short texts of which each match contains one.

Each match of `(?:go(?:es)? to|attend) \\w+ school` contains `school`, so a text without it need not be searched for the
expression. These required texts are found in the parsed expression: what its parts can match is listed while that is
little, and of the lists the one is taken whose texts are the rarest in English.

Required texts, and the text that is looked at, are folded: capitals into small letters, digits into `0`, and all
characters beyond ASCII into one byte. A text that contains another one does so folded, too, so no match is missed,
whatever the alphabet; some expressions that do not match are not ruled out. What look-arounds forbid is ignored: it
only rules out more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from string import ascii_lowercase
from typing import TypeAlias
from weakref import WeakKeyDictionary

from openapi_server.linear_regex.alphabet import Names, get_alphabet
from openapi_server.linear_regex.parser import Alternatives, Group, Item, Look, Repeat, Symbols, parse
from openapi_server.linear_regex.parser import Sequence as Items
from openapi_server.linear_regex.pattern import Detector, Pattern

# As many texts are listed of a part of an expression, and as many characters of a class.
_MAX_TEXTS, _MAX_CLASS = 16, 8
_MAX_COPIES = 8
# Required texts are cut to so many characters, and found by pieces of three.
_REQUIRED_CHARS, _PIECE_CHARS = 5, 3
# For a longer text it takes as long to list its pieces as to search for all expressions.
_MAX_CHARS_FOR_EACH = 16
_ASCII = 128
_FOLDED = bytes(ord("0") if chr(code).isdecimal() else min(code, _ASCII) for code in range(256)).lower()
# What is in here is everywhere. Signs and digits are not.
_ENGLISH = (
    b"what do you eat and how are you? tell me about your family, please. where does the lion live in the wild? "
    b"i want to know if it is the best of all animals. can we see them here? why do they have such long ears that "
    b"hear everything? my friend is with me. there was one more question for the other, which will not be hard to "
    b"answer. who are your parents and when did your mother come from there? could you say something in our words?"
)
_COMMON = b" etaoinshrldu.,?!'-"

# Its symbols beyond ASCII are folded into one, as those of all alphabets are.
_ALPHABET = get_alphabet(Names())

Texts: TypeAlias = frozenset[bytes]
_EMPTY: Texts = frozenset((b"",))


@dataclass(frozen=True, slots=True)
class _Contents:
    """The matches of a part of an expression. `all`: every one of them. `required`: each contains one of these.

    None: they are too many, or there are none.
    """

    all: Texts | None = None
    required: Texts | None = None


_UNKNOWN, _NO_WIDTH = _Contents(), _Contents(_EMPTY)


class Prefilter:
    """The expressions by number. Anything that is none of `linear_regex` can match in every text. Thread-safe."""

    def __init__(self, expressions: Iterable[object]) -> None:
        self._expressions = tuple(expressions)
        self._index: _Index | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """What the first text would wait for: it takes about as long as to compile the expressions."""
        with self._lock:
            if self._index is None:
                self._index = _Index([find_required_texts(each) for each in self._expressions])
                # Tens of thousands of texts were compared, which nobody asks for again.
                _measure.cache_clear()
                _cut.cache_clear()

    def list_candidates(self, text: str) -> Sequence[int]:
        """The numbers of the expressions that can match in the text, in ascending order."""
        if self._index is None and not self._lock.locked():
            self.prepare()
        index = self._index
        if index is None or len(text) > index.max_chars:
            # Nothing is known yet, because a thread prepares it; or nothing is gained.
            return range(len(self._expressions))
        return index.list_numbers(_ALPHABET.encode(text).translate(_FOLDED))


class _Index:
    def __init__(self, required: Sequence[Texts | None]) -> None:
        self._always = [number for number, texts in enumerate(required) if texts is None]
        self.max_chars = _MAX_CHARS_FOR_EACH * (len(required) - len(self._always))
        numbers: dict[bytes, set[int]] = {}
        for number, texts in enumerate(required):
            for text in texts or ():
                numbers.setdefault(_cut(text, _REQUIRED_CHARS), set()).add(number)
        self._numbers = {text: tuple(each) for text, each in numbers.items()}
        # By three bytes, or by the number of the first one for a text that has less.
        self._texts: dict[bytes | int, list[bytes]] = {}
        for text in self._numbers:
            piece = _cut(text, _PIECE_CHARS)
            self._texts.setdefault(piece if len(piece) == _PIECE_CHARS else piece[0], []).append(text)
        self._pieces = frozenset(self._texts)

    def list_numbers(self, data: bytes) -> list[int]:
        pieces: set[bytes | int] = {data[at : at + _PIECE_CHARS] for at in range(len(data) - _PIECE_CHARS + 1)}
        pieces.update(data)
        found = set(self._always)
        for piece in self._pieces & pieces:
            for text in self._texts[piece]:
                if text in data:
                    found.update(self._numbers[text])
        return sorted(found)


def find_required_texts(expression: object) -> Texts | None:
    """Folded texts of which each match contains one; None when there are no such texts."""
    if not isinstance(expression, Pattern | Detector):
        return None
    if expression not in _known:
        get_symbols = expression.alphabet.get_symbols
        bodies = [parse(source, flags, get_symbols).body for source, flags in expression.sources]
        _known[expression] = _unite([_examine_alternatives(body).required for body in bodies])
    return _known[expression]


# Expressions are prepared again with others, when keepers change their rules.
_known: WeakKeyDictionary[Pattern | Detector, Texts | None] = WeakKeyDictionary()


def _examine_alternatives(body: Alternatives) -> _Contents:
    parts = [_examine_items(items) for items in body]
    every = _unite([part.all for part in parts])
    return _Contents(
        every if every is not None and len(every) <= _MAX_TEXTS else None, _unite([part.required for part in parts])
    )


def _unite(sets: Sequence[Texts | None]) -> Texts | None:
    known = [each for each in sets if each is not None]
    return frozenset[bytes]().union(*known) if len(known) == len(sets) else None


def _examine_items(items: Items) -> _Contents:
    """`texts` are what the items since the last one that is not listed can match."""
    texts, literal, choices, is_listed = _EMPTY, b"", [], True
    for item in items:
        part = _examine(item)
        if part.all is not None and len(part.all) == 1:
            # Most of an expression are single letters.
            literal += next(iter(part.all))
            choices += [part.required] if isinstance(item, Look) else []
            continue
        texts, literal = _append(texts, literal), b""
        if part.all is not None and len(texts) * len(part.all) <= _MAX_TEXTS:
            texts = frozenset([before + after for before in texts for after in part.all])
            continue
        is_listed = False
        choices += [texts, part.required]
        texts = part.all or _EMPTY
    texts = _append(texts, literal)
    return _Contents(texts if is_listed else None, _choose([*choices, texts]))


def _append(texts: Texts, literal: bytes) -> Texts:
    return frozenset([text + literal for text in texts]) if literal else texts


def _examine(item: Item) -> _Contents:
    match item:
        case Symbols(mask):
            return _examine_class(mask)
        case Group(body):
            return _examine_alternatives(body)
        case Repeat(inner, least, most):
            return _examine_repeat(_examine(inner), least, most)
        case Look(body, _, is_negative=False):
            # What it demands is in the text, beside the match.
            return _Contents(_EMPTY, _examine_alternatives(body).required)
        case _:
            return _NO_WIDTH


@cache
def _examine_class(mask: int) -> _Contents:
    codes = {_FOLDED[code] for code in range(256) if mask >> code & 1}
    texts = frozenset(bytes((code,)) for code in codes)
    return _Contents(texts, _choose([texts])) if 0 < len(codes) <= _MAX_CLASS else _UNKNOWN


def _examine_repeat(part: _Contents, least: int, most: int | None) -> _Contents:
    if most == 0:
        return _NO_WIDTH
    if part.all is None:
        return _Contents(None, part.required if least else None)
    if least == 0:
        return _Contents(part.all | _EMPTY) if most == 1 and len(part.all) < _MAX_TEXTS else _UNKNOWN
    # So many copies, one behind the other, are in each match.
    counts = range(1, min(least, _MAX_COPIES) + 1)
    count = max((count for count in counts if len(part.all) ** count <= _MAX_TEXTS), default=1)
    copies = reduce(lambda before, _: frozenset(a + b for a in before for b in part.all or ()), range(count), _EMPTY)
    return _Contents(copies if count == least == most else None, _choose([copies]))


def _choose(choices: Iterable[Texts | None]) -> Texts | None:
    """The set of which a text is least likely to contain one."""
    return max((texts for texts in choices if texts and b"" not in texts), key=_rate, default=None)


def _rate(texts: Texts) -> float:
    return min([_measure(_cut(text, _REQUIRED_CHARS)) for text in texts]) - len(texts) / _MAX_TEXTS


@cache
def _measure(text: bytes) -> float:
    """How rare a short text is: in bits, very roughly."""
    bits = sum(3.5 if code in _COMMON else 6 if chr(code) in ascii_lowercase else 12 for code in text)
    return bits / 2 if text in _ENGLISH else bits


@cache
def _cut(text: bytes, count: int) -> bytes:
    """So many characters of the text, where they are rarest."""
    starts = range(max(1, len(text) - count + 1))
    return max([text[at : at + count] for at in starts], key=_measure)
