"""Compiled expressions: `Pattern`, which finds where they match, and `Detector`, which finds whether they do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from string import ascii_letters, digits
from typing import Any, TypeAlias, TypeVar

import re2

from openapi_server.linear_regex.alphabet import Alphabet
from openapi_server.linear_regex.lookaround import (
    ANY_MASK,
    EDGE_MASK,
    SYMBOLS_MASK,
    Branch,
    End,
    Forbidden,
    find_complement,
)
from openapi_server.linear_regex.parser import (
    Alternatives,
    Edge,
    Group,
    Item,
    LinearRegexError,
    Repeat,
    Sequence,
    Symbols,
    Tree,
)
from openapi_server.linear_regex.re2_syntax import compile_re2

# For what RE2 remembers of an expression: without a limit 8 MB, for each of hundreds. With too little, a large one
# takes ten times as long.
_MIN_MEMORY_BYTES, _MEMORY_BYTES_FOR_EACH_CHARACTER = 1 << 20, 64
_UNANCHORED, _ANCHORED = re2._Anchor.UNANCHORED, re2._Anchor.ANCHOR_START
_NO_SPAN = (-1, -1)
# The numbers of the empty groups where a match begins and ends.
_START, _END = -1, -2
_NEVER_MATCHES = r"[^\x00-\xff]"
# How single characters are written, by their masks. As classes they would take RE2 several times the memory.
_LETTERS = {1 << ord(letter): letter for letter in ascii_letters + digits + " ',-"}

Replacement: TypeAlias = "str | Callable[[Match], str]"
K = TypeVar("K")
T = TypeVar("T")


class Match:
    """Where an expression has matched, as `re.Match` says it: offsets are in characters."""

    __slots__ = ("_names", "_spans", "string")

    def __init__(self, string: str, spans: list[tuple[int, int]], names: Mapping[str, int]) -> None:
        self.string = string
        self._spans = spans
        self._names = names

    def span(self, group: int | str = 0) -> tuple[int, int]:
        """(-1, -1) for a group that took no part. `IndexError`: there is no such group."""
        if isinstance(group, str):
            if group not in self._names:
                raise IndexError(f"no such group: {group}")
            group = self._names[group]
        return self._spans[group]

    def start(self, group: int | str = 0) -> int:
        return self.span(group)[0]

    def end(self, group: int | str = 0) -> int:
        return self.span(group)[1]

    def __getitem__(self, group: int | str) -> Any:
        """The text of the group; None when it took no part."""
        start, end = self.span(group)
        return self.string[start:end] if start >= 0 else None

    def group(self, group: int | str = 0) -> Any:
        return self[group]

    def groups(self) -> tuple[Any, ...]:
        return tuple(self[number] for number in range(1, len(self._spans)))

    def groupdict(self) -> dict[str, Any]:
        return {name: self[number] for name, number in self._names.items()}


class Pattern:
    """Methods and results are those of `re.Pattern`; `pos` is where a search begins, not where the text does.

    Two differences: behind an empty match, the search goes on at the next character; and a repetition of what prefers
    to be empty, as `(?:a??)+`, may be longer.
    """

    def __init__(self, source: str, flags: int, alphabet: Alphabet, tree: Tree, branches: list[Branch]) -> None:
        self.pattern = source
        self.sources = ((source, flags),)
        self.alphabet = alphabet
        self.groups = tree.groups
        self.groupindex: Mapping[str, int] = tree.names
        # Where a look-behind is needed, a match of RE2 begins one symbol before ours.
        self._looks_behind = any(branch.before for branch in branches)
        self._looks_ahead = any(branch.looks_ahead for branch in branches)
        self._is_plain = not (self.groups or self._looks_behind or self._looks_ahead)
        # A match at the beginning of the text has no symbol before it, and comes before one behind the first symbol:
        # in one expression, both would begin at the same place, and the order of the branches would decide.
        self._at_start = self._compile("start", branches) if self._looks_behind else None
        self._anywhere = self._compile("inside" if self._looks_behind else "", branches)

    def search(self, text: str, pos: int = 0) -> Match | None:
        return self._find(text, self.alphabet.encode(text), pos)

    def match(self, text: str, pos: int = 0) -> Match | None:
        return self._find(text, self.alphabet.encode(text), pos, is_anchored=True)

    def fullmatch(self, text: str) -> Match | None:
        """Raises `LinearRegexError` for an expression that looks at what follows the match."""
        if self._looks_ahead:
            raise LinearRegexError("fullmatch with a look-ahead")
        return self._find(text, self.alphabet.encode(text), 0, is_anchored=True, is_full=True)

    def finditer(self, text: str) -> Iterator[Match]:
        data = self.alphabet.encode(text)
        at = 0
        while at <= len(text) and (found := self._find(text, data, at)) is not None:
            yield found
            start, end = found.span()
            at = end if end > start else end + 1

    def findall(self, text: str) -> list[Any]:
        """The texts of the matches; of an expression with one group, those of the group; with more, tuples."""
        if self._is_plain:
            return self._find_all_plain(text)
        if not self.groups:
            return [found[0] for found in self.finditer(text)]
        groups = (tuple(part or "" for part in found.groups()) for found in self.finditer(text))
        return [parts[0] if self.groups == 1 else parts for parts in groups]

    def _find_all_plain(self, text: str) -> list[str]:
        if self._anywhere is None:
            return []
        match, data = self._anywhere.regexp.Match, self.alphabet.encode(text)
        length, at, texts = len(data), 0, []
        while at <= length:
            start, end = match(_UNANCHORED, data, at, length)[0]
            if start < 0:
                break
            texts.append(text[start:end])
            at = end if end > start else end + 1
        return texts

    def sub(self, replacement: Replacement, text: str, count: int = 0) -> str:
        """`replacement`: a text, in which \\1 and \\g<name> stand for groups, or a function of the match."""
        replace = replacement if callable(replacement) else _parse_template(replacement)
        pieces, at = [], 0
        for number, found in enumerate(self.finditer(text), 1):
            pieces += [text[at : found.start()], replace(found)]
            at = found.end()
            if number == count:
                break
        return "".join([*pieces, text[at:]])

    def split(self, text: str, maxsplit: int = 0) -> list[Any]:
        pieces: list[Any] = []
        at = 0
        for number, found in enumerate(self.finditer(text), 1):
            pieces += [text[at : found.start()], *found.groups()]
            at = found.end()
            if number == maxsplit:
                break
        return [*pieces, text[at:]]

    def _find(
        self, text: str, data: bytes, pos: int, *, is_anchored: bool = False, is_full: bool = False
    ) -> Match | None:
        pos = max(0, min(pos, len(text)))
        anchor = re2._Anchor.ANCHOR_BOTH if is_full else _ANCHORED if is_anchored else _UNANCHORED
        if not self._looks_behind:
            return self._match(self._anywhere, anchor, text, data, pos)
        if pos > 0:
            return self._match(self._anywhere, anchor, text, data, pos - 1)
        at_start = self._match(self._at_start, anchor if is_anchored else _ANCHORED, text, data, 0)
        return at_start if at_start or is_anchored else self._match(self._anywhere, anchor, text, data, 0)

    def _match(self, program: _Program | None, anchor: Any, text: str, data: bytes, at: int) -> Match | None:
        if program is None:
            return None
        spans = program.regexp.Match(anchor, data, at, len(data))
        if spans[0] == _NO_SPAN:
            return None
        if self._is_plain:
            return Match(text, spans, self.groupindex)
        found = [_NO_SPAN] * (self.groups + 1)
        start = end = 0
        for number, span in zip(program.numbers, spans[1:], strict=True):
            if span == _NO_SPAN:
                continue
            if number == _START:
                start = span[0]
            elif number == _END:
                end = span[0]
            else:
                found[number] = span
        found[0] = (start, end)
        return Match(text, found, self.groupindex)

    def _compile(self, kind: str, branches: Iterable[Branch]) -> _Program | None:
        """None: of these branches none can match so. Then it costs neither time nor memory."""
        writer = _Writer(captures=not self._is_plain, is_ordered=True)
        written = [
            f"{begun}{writer.write_branches(same)}"
            for before, same in writer.gather(branches, _get_before)
            if (begun := _write_before(before, kind)) != _NEVER_MATCHES
        ]
        if not written:
            return None
        regexp = _compile_latin1("|".join(written), self.pattern, never_capture=self._is_plain)
        return _Program(regexp, tuple(writer.numbers))


@dataclass(frozen=True, slots=True)
class _Program:
    """What RE2 has made of an expression. `numbers`: for each of RE2's groups the number of ours."""

    regexp: Any
    numbers: tuple[int, ...]


class Detector:
    """Finds whether one of several expressions matches."""

    def __init__(self, sources: Iterable[tuple[str, int]], alphabet: Alphabet, branches: list[Branch]) -> None:
        """`sources`: the expressions with their flags."""
        self.sources = tuple(sources)
        self.pattern = "|".join([source for source, _ in self.sources])
        self.alphabet = alphabet
        writer = _Writer(captures=False, is_ordered=False)
        gathered = writer.gather(branches, _get_before)
        joined = "|".join(_write_backwards(before) + writer.write_branches(same) for before, same in gathered)
        self._regexp = _compile_latin1(joined or _NEVER_MATCHES, self.pattern, never_capture=True)

    def search(self, text: str, /) -> bool:
        data = self.alphabet.encode(text)
        return bool(self._regexp.Match(_UNANCHORED, data, 0, len(data))[0] != _NO_SPAN)


def _compile_latin1(source: str, original: str, *, never_capture: bool) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.never_capture = never_capture
    options.max_mem = _MIN_MEMORY_BYTES + len(source) * _MEMORY_BYTES_FOR_EACH_CHARACTER
    try:
        return compile_re2(source.encode("latin-1"), options)._regexp
    except LinearRegexError as error:
        raise LinearRegexError(f"{error} in {original!r}") from None


class _Writer:
    """Writes trees as expressions for RE2. `numbers`: the number of each group that it has written.

    What several branches begin or end with is written once: RE2's memory, and its time, grow with what is written.
    `is_ordered`: of several matches at one place the first branch counts, so only neighbours are written together.
    """

    def __init__(self, *, captures: bool, is_ordered: bool) -> None:
        self._captures = captures
        self._is_ordered = is_ordered
        self.numbers: list[int] = []

    def gather(self, items: Iterable[T], get_key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
        """The items that have the same key, in their order: of all items, or of neighbours."""
        gathered: list[tuple[K, list[T]]] = []
        places: dict[K, list[T]] = {}
        for item in items:
            key = get_key(item)
            if self._is_ordered and gathered and gathered[-1][0] != key:
                places.clear()
            if key not in places:
                places[key] = []
                gathered.append((key, places[key]))
            places[key].append(item)
        return gathered

    def write_branches(self, branches: Iterable[Branch]) -> str:
        """Branches with the same `before`, without it: an empty group where a match begins, and one where it ends."""
        begun = self._mark(_START)
        written: list[str] = []
        for ahead, same in self.gather(branches, _get_ahead):
            written += self._write_ends([_make_end(branch) for branch in same], ahead)
        return begun + _write_alternatives(written)

    def _write_ends(self, ends: Iterable[End], ahead: Alternatives | None) -> list[str]:
        written: list[str] = []
        for after, same in self.gather(ends, _get_after):
            if after is None:
                written += [self._write_further(end, ahead) for end in same]
            else:
                bodies = [self.write_all(end.items) for end in same]
                written.append(_write_alternatives(bodies) + self._mark(_END) + _write_after(after, ahead))
        return written

    def _write_further(self, end: End, ahead: Alternatives | None) -> str:
        begun = self.write_all(end.items)
        return begun + _write_alternatives(self._write_ends(end.ends, ahead))

    def _mark(self, number: int) -> str:
        if not self._captures:
            return ""
        self.numbers.append(number)
        return "()"

    def write_group(self, group: Group) -> str:
        is_capturing = self._captures and group.number is not None
        if is_capturing and group.number is not None:
            self.numbers.append(group.number)
        branches = "|".join(map(self.write_all, group.body))
        return f"({branches})" if is_capturing else f"(?:{branches})"

    def write_all(self, items: Sequence) -> str:
        return "".join([_write_mask(i.mask) if isinstance(i, Symbols) else self._write(i) for i in items])

    def _write(self, item: Item) -> str:
        match item:
            case Symbols(mask):
                return _write_mask(mask)
            case Group():
                return self.write_group(item)
            case Repeat(inner, least, most, is_lazy):
                if most == 0:
                    return ""
                counts = f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"
                body = self._write(inner)
                # RE2 repeats nothing a thousand times as readily as anything else.
                return f"(?:{body}){counts}{'?' if is_lazy else ''}" if body else ""
            case Edge(kind, is_multiline):
                return _write_edge(kind, is_multiline)
        raise LinearRegexError("a look-around at a place where it cannot be")


def _write_edge(kind: str, is_multiline: bool) -> str:
    match kind:
        case "^" | "A":
            return "(?m:^)" if is_multiline else r"\A"
        case "$":
            return "(?m:$)"
        case _:
            return r"\z"


def _write_alternatives(written: list[str]) -> str:
    if len(written) == 1:
        return written[0]
    return f"(?:{'|'.join(written)})" if written else _NEVER_MATCHES


def _get_before(branch: Branch) -> Forbidden:
    return branch.before


def _get_ahead(branch: Branch) -> Alternatives | None:
    return branch.ahead


def _get_after(end: End) -> Forbidden | None:
    """What is forbidden behind the end; None: that is said by its own ends."""
    return None if end.ends else end.after


def _make_end(branch: Branch) -> End:
    """The branch as an end: with its own one where there is just that."""
    if len(branch.ends) == 1 and not branch.ends[0].ends:
        [end] = branch.ends
        return End((*branch.items, *end.items), end.after)
    return End(branch.items, ends=branch.ends)


@cache
def _write_mask(mask: int) -> str:
    ranges, at = [], 0
    mask &= SYMBOLS_MASK
    if mask in _LETTERS:
        return _LETTERS[mask]
    while mask >> at:
        if not mask >> at & 1:
            at += 1
            continue
        end = at
        while mask >> (end + 1) & 1:
            end += 1
        ranges.append(f"\\x{at:02x}-\\x{end:02x}" if end > at else f"\\x{at:02x}")
        at = end + 1
    return f"[{''.join(ranges)}]" if ranges else _NEVER_MATCHES


def _write_before(before: Forbidden, kind: str) -> str:
    """What stands before a match, as one symbol. `kind`: "start" when nothing does, "inside" when something does."""
    if not kind:
        return ""
    if any(len(sequence) != 1 for sequence in before):
        raise LinearRegexError("a look-behind of more than one character, where it matters where a match is")
    allowed = ANY_MASK
    for [mask] in before:
        allowed &= ~mask
    if kind == "start":
        return r"\A" if allowed & EDGE_MASK else _NEVER_MATCHES
    return _write_mask(allowed & SYMBOLS_MASK)


@cache
def _write_backwards(before: Forbidden) -> str:
    if not before:
        return ""
    writer = _Writer(captures=False, is_ordered=False)
    branches = [
        "".join(r"\A" if isinstance(item, Edge) else writer.write_all((item,)) for item in reversed(branch))
        for branch in find_complement(before)
    ]
    return f"(?:{'|'.join(branches) or _NEVER_MATCHES})"


def _write_after(after: Forbidden, ahead: Alternatives | None) -> str:
    if after:
        return _write_complement(after)
    return "" if ahead is None else _write_required(ahead)


@cache
def _write_complement(after: Forbidden) -> str:
    return _write_required(find_complement(after))


def _write_required(ahead: Alternatives) -> str:
    return _Writer(captures=False, is_ordered=False).write_group(Group(ahead)) if ahead else _NEVER_MATCHES


@cache
def _parse_template(template: str) -> Callable[[Match], str]:
    parts = re.split(r"\\(?:g<(\w+)>|([0-9]))", template)
    if len(parts) == 1:
        return lambda found: template

    def expand(found: Match) -> str:
        names = (parts[at + 1] or parts[at + 2] for at in range(0, len(parts) - 1, 3))
        texts = (found[int(name) if name.isdecimal() else name] or "" for name in names)
        return "".join(part for pair in zip(parts[::3], (*texts, ""), strict=True) for part in pair)

    return expand
