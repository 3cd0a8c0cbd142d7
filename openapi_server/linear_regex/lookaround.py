"""Rewrites expressions with look-arounds and word borders into such as RE2 knows, which match the same.

A negative look-ahead becomes part of what follows it: `(?!my )\\w+ ` is "a word that does not begin with m, or m alone,
or a word that begins with m and another letter than y ...". Where the expression ends before the look-ahead is decided,
the rest of it becomes a look at what follows the match, as do word borders and positive look-aheads there.
`Branch` has these ends. Everything else (an infinite language in a negative look-ahead; look-behind in the middle) is
refused with `LinearRegexError`.

A set of sequences is what a look-around forbids: in each, a mask for each symbol, in the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from openapi_server.linear_regex.alphabet import EDGE
from openapi_server.linear_regex.parser import (
    Alternatives,
    Edge,
    Group,
    Item,
    LinearRegexError,
    Look,
    Repeat,
    Sequence,
    Symbols,
)

Forbidden: TypeAlias = frozenset[tuple[int, ...]]
NOTHING: Forbidden = frozenset()
_NEVER: Forbidden = frozenset({()})
_Choices: TypeAlias = list[tuple[Forbidden, list[Sequence]]]

EDGE_MASK = 1 << EDGE
SYMBOLS_MASK = EDGE_MASK - 1
ANY_MASK = SYMBOLS_MASK | EDGE_MASK
_NEWLINE_MASK = 1 << ord("\n")
# As in `re`, `$` is also before a line break that ends the text.
_NO_END: Forbidden = frozenset({(ANY_MASK & ~EDGE_MASK & ~_NEWLINE_MASK,), (_NEWLINE_MASK, ANY_MASK & ~EDGE_MASK)})
_MAX_SEQUENCES, _MAX_STEPS = 1_000, 80


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the alternatives of an expression: `items`, then one of the `ends`; none has look-arounds.

    `before`: what is forbidden before the match, read backwards. `ahead`: what must follow it.
    """

    items: Sequence
    ends: tuple[End, ...]
    before: Forbidden = NOTHING
    ahead: Alternatives | None = None

    @property
    def looks_ahead(self) -> bool:
        return self.ahead is not None or any(end.after or end.ends for end in self.ends)


@dataclass(frozen=True, slots=True)
class End:
    """Items towards the end of a branch, and what is forbidden behind them, or further items."""

    items: Sequence
    after: Forbidden = NOTHING
    ends: tuple[End, ...] = ()


def list_branches(
    body: Alternatives, word_mask: int, *, is_ordered: bool = True, is_whole_word: bool = False
) -> list[Branch]:
    """The branches of an expression, without those that cannot match.

    `is_ordered`: of several matches at one place, the same one counts as before. `is_whole_word`: no word symbol stands
    before and behind a match.
    """
    rewriter = _Rewriter(word_mask, is_ordered)
    return [branch for items in body for branch in rewriter.list_branches(items, is_whole_word)]


def find_complement(forbidden: Forbidden) -> Alternatives:
    """Sequences of which one begins every text that begins with none of the forbidden ones. `$` stands for the edge."""
    branches: list[Sequence] = []
    for mask, rest in _split(ANY_MASK, forbidden):
        if rest == NOTHING:
            branches += [(item,) for item in _make_items(mask)]
        elif () not in rest:
            branches += [(item, *deeper) for item in _make_items(mask) for deeper in find_complement(rest)]
    return tuple(branches)


def _make_items(mask: int) -> list[Item]:
    items: list[Item] = [Symbols(mask & SYMBOLS_MASK)] if mask & SYMBOLS_MASK else []
    return [*items, Edge("Z")] if mask & EDGE_MASK else items


def _split(mask: int, forbidden: Forbidden) -> list[tuple[int, Forbidden]]:
    """The mask in parts, each with what is forbidden behind a symbol of it."""
    parts: list[tuple[int, set[tuple[int, ...]]]] = [(mask, set())]
    for sequence in forbidden:
        if not sequence:
            continue
        divided = []
        for part, rest in parts:
            if inside := part & sequence[0]:
                divided.append((inside, rest | {sequence[1:]}))
            if outside := part & ~sequence[0]:
                divided.append((outside, rest))
        parts = divided
    merged: dict[Forbidden, int] = {}
    for part, rest in parts:
        kept = _NEVER if () in rest else frozenset(rest)
        merged[kept] = merged.get(kept, 0) | part
    return [(part, rest) for rest, part in merged.items()]


class _Rewriter:
    def __init__(self, word_mask: int, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._word = word_mask
        self._no_word = ANY_MASK & ~word_mask

    def list_branches(self, items: Sequence, is_whole_word: bool) -> Iterator[Branch]:
        for distributed in self._distribute(items):
            before, rest = self._take_before(distributed)
            if is_whole_word:
                before |= {(self._word,)}
            body, ahead = self._take_ahead(self._replace_borders(rest, None))
            border: Forbidden = frozenset({(self._word,)}) if is_whole_word else NOTHING
            shared, ends = self._list_ends(body, NOTHING, border, ahead)
            if ends:
                yield Branch(shared, ends, before, ahead)

    def _list_ends(
        self, items: Sequence, forbidden: Forbidden, border: Forbidden, ahead: Alternatives | None
    ) -> tuple[Sequence, tuple[End, ...]]:
        """What a match of the items begins with, and how it can end; no ends: there is none."""
        shared, choices, left = self._rewrite_parts(items, forbidden)
        ends: list[End] = []
        for rest, found in choices:
            if left:
                between, further = self._list_ends(left, rest, border, ahead)
                if further:
                    ends.append(End((*_join(found), *between), ends=further))
            elif ahead is None:
                ends.append(End(_join(found), rest | border))
            elif self._reconcile(rest | border, ahead):
                ends.append(End(_join(found)))
        return shared, tuple(ends)

    def _reconcile(self, after: Forbidden, ahead: Alternatives) -> bool:
        """Whether what must follow excludes what is forbidden; False when it is forbidden itself."""
        first, is_optional = _find_end(ahead, is_first=True)
        if not is_optional and any(len(sequence) < 2 and not first & ~_unite(sequence) for sequence in after):
            return False
        if any(is_optional or not sequence or first & sequence[0] for sequence in after):
            raise LinearRegexError("a look-ahead and a border, or a second look-ahead, that it does not exclude")
        return True

    # --- The beginning

    def _distribute(self, items: Sequence) -> Iterator[Sequence]:
        """Sequences without a look-around at the beginning of a group at their beginning."""
        if items and isinstance(items[0], Group) and _has_look(items[0], is_first=True):
            if self._is_ordered and items[0].number is not None:
                raise LinearRegexError("a look-behind or border at the beginning of a capturing group")
            for branch in items[0].body:
                yield from self._distribute((*branch, *items[1:]))
        else:
            yield items

    def _take_before(self, items: Sequence) -> tuple[Forbidden, Sequence]:
        before: set[tuple[int, ...]] = set()
        at = 0
        for item in items:
            if isinstance(item, Look) and not item.is_ahead:
                before |= self._find_forbidden_before(item)
            elif isinstance(item, Edge) and item.kind in "^A":
                before.add((ANY_MASK & ~_get_edge_mask(item),))
            elif isinstance(item, Edge) and item.kind in "bB":
                first, is_empty = _find_end((items[at + 1 :],), is_first=True)
                before.add((self._find_border(item, first, is_empty),))
            else:
                break
            at += 1
        return frozenset(before), items[at:]

    def _find_forbidden_before(self, look: Look) -> set[tuple[int, ...]]:
        sequences = {tuple(reversed(each)) for each in self._list_sequences(look.body, is_ahead=False)}
        if look.is_negative:
            return sequences
        if any(len(sequence) != 1 for sequence in sequences):
            raise LinearRegexError("a positive look-behind of more than one character")
        return {(ANY_MASK & ~_unite(sequence[0] for sequence in sequences),)}

    def _find_border(self, edge: Edge, beside: int, is_empty: bool) -> int:
        """What may not stand on the other side of a border, or of no border, when `beside` stands on this one."""
        is_word = not beside & ~self._word
        if is_empty or not beside or (not is_word and beside & self._word):
            raise LinearRegexError(f"\\{edge.kind} beside what may be a word character or not")
        return self._word if is_word == (edge.kind == "b") else self._no_word

    # --- The end

    def _take_ahead(self, items: Sequence) -> tuple[Sequence, Alternatives | None]:
        """The sequence without a positive look-ahead at its end, and what that looks for."""
        last = items[-1] if items else None
        if isinstance(last, Look) and last.is_ahead and not last.is_negative:
            return items[:-1], tuple(self._complete(branch) for branch in last.body)
        return items, None

    def _complete(self, items: Sequence) -> Sequence:
        """A sequence of a positive look-ahead, with what must follow it as part of it."""
        # Only whether it matches counts.
        choices = _Rewriter(self._word, is_ordered=False)._rewrite_all(self._replace_borders(items, None), NOTHING)
        return _join(
            [(*each, Group(find_complement(rest))) if rest else each for rest, found in choices for each in found]
        )

    # --- Borders of words within the expression

    def _replace_borders(self, items: Sequence, before: int | None) -> Sequence:
        """Each border as a negative look-ahead. `before`: what may stand before the items; None: anything."""
        if not any(map(_has_border, items)):
            return items
        kept: list[Item] = []
        for item in items:
            if isinstance(item, Edge) and item.kind in "bB":
                forbidden = self._find_border(item, before or 0, before is None)
                kept.append(Look(((Symbols(forbidden),),), is_ahead=True, is_negative=True))
                continue
            replaced, last, is_optional = self._replace_in_item(item, before)
            kept.append(replaced)
            before = (before or 0) | last if is_optional and before is not None else None if is_optional else last
        return tuple(kept)

    def _replace_in_item(self, item: Item, before: int | None) -> tuple[Item, int, bool]:
        last, is_optional = _find_end(((item,),), is_first=False)
        match item:
            case Group(body, number):
                branches = tuple(self._replace_borders(branch, before) for branch in body)
                return Group(branches, number), last, is_optional
            case Repeat(inner, least, most, is_lazy):
                around = before | last if before is not None and most != 1 else before
                return Repeat(self._replace_in_item(inner, around)[0], least, most, is_lazy), last, is_optional
        return item, last, is_optional

    # --- Negative look-aheads

    def _rewrite_all(self, items: Sequence, forbidden: Forbidden) -> _Choices:
        shared, choices, left = self._rewrite_parts(items, forbidden)
        is_fixed = all(isinstance(item, Symbols) for item in shared)
        if left or (self._is_ordered and len(choices) > 1 and not is_fixed):
            # Which of the choices counts would be decided before the length of the shared part.
            raise LinearRegexError("a look-ahead that is not decided within its group, behind a repetition or group")
        return [(rest, [(*shared, *each) for each in found]) for rest, found in choices]

    def _rewrite_parts(self, items: Sequence, forbidden: Forbidden) -> tuple[Sequence, _Choices, Sequence]:
        """What all choices begin with, the choices, and the items that must be rewritten for each choice by itself."""
        first = 0
        if forbidden == NOTHING:
            first = next((at for at, item in enumerate(items) if _has_look(item)), len(items))
        shared = items[:first]
        choices: _Choices = [(forbidden, [()])]
        for at, item in enumerate(items[first:], first):
            if len(choices) == 1:
                [(pending, prefixes)] = choices
                shared += _join(prefixes)
                choices = [(pending, [()])]
            elif self._is_ordered and _has_look(item):
                return shared, choices, items[at:]
            choices = self._merge(
                (rest, (*prefix, *each))
                for pending, prefixes in choices
                for prefix in [_join(prefixes)]
                for rest, found in self._rewrite(item, pending)
                for each in found
            )
        return shared, choices, ()

    def _merge(self, choices: Iterable[tuple[Forbidden, Sequence]]) -> _Choices:
        merged: _Choices = []
        places: dict[Forbidden, list[Sequence]] = {}
        for rest, sequence in choices:
            if self._is_ordered and (not merged or merged[-1][0] != rest):
                places.pop(rest, None)
            if rest not in places:
                places[rest] = []
                merged.append((rest, places[rest]))
            places[rest].append(sequence)
        return merged

    def _rewrite(self, item: Item, forbidden: Forbidden) -> _Choices:
        """The sequences that the item becomes, each with what is still forbidden behind it."""
        if forbidden == NOTHING and not _has_look(item):
            return [(NOTHING, [(item,)])]
        match item:
            case Symbols(mask):
                return [(rest, [(Symbols(part),)]) for part, rest in _split(mask, forbidden) if rest != _NEVER]
            case Look(body, True, True):
                return [(forbidden | self._list_sequences(body, is_ahead=True), [()])]
            case Look():
                raise LinearRegexError("a look-behind that is not at the beginning, or a look-ahead not at the end")
            case Edge("$", False):
                return [(forbidden | _NO_END, [()])]
            case Edge():
                return [(forbidden, [(item,)])]
            case Group(body, number):
                choices = self._merge(
                    (rest, each)
                    for branch in body
                    for rest, found in self._rewrite_all(branch, forbidden)
                    for each in found
                )
                return [(rest, [(Group(tuple(found), number),)]) for rest, found in choices]
            case Repeat():
                return self._merge(self._rewrite_repeat(item, forbidden, (), 0))

    def _rewrite_repeat(
        self, repeat: Repeat, forbidden: Forbidden, prefix: Sequence, count: int
    ) -> Iterator[tuple[Forbidden, Sequence]]:
        """The sequences after `count` repetitions, which are the prefix; what is preferred comes first."""
        left = None if repeat.most is None else repeat.most - count
        least = max(repeat.least - count, 0)
        if left == 0:
            yield forbidden, prefix
            return
        if forbidden == NOTHING and not (left == 1 and _has_look(repeat.item)):
            yield NOTHING, (*prefix, Repeat(self._rewrite_repeated(repeat.item), least, left, repeat.is_lazy))
            return
        if count > _MAX_STEPS:
            raise LinearRegexError("a look-ahead before a repetition of what may be empty")
        if least == 0 and repeat.is_lazy:
            yield forbidden, prefix
        for rest, found in self._rewrite(repeat.item, forbidden):
            yield from self._rewrite_repeat(repeat, rest, (*prefix, *_join(found)), count + 1)
        if least == 0 and not repeat.is_lazy:
            yield forbidden, prefix

    def _rewrite_repeated(self, item: Item) -> Item:
        choices = self._rewrite(item, NOTHING)
        if any(rest for rest, _ in choices):
            raise LinearRegexError("a look-ahead that is not decided within the repeated part")
        return Group(tuple(each for _, found in choices for each in found))

    # --- What look-arounds forbid

    def _list_sequences(self, body: Alternatives, *, is_ahead: bool) -> set[tuple[int, ...]]:
        """All that the body matches. At the end of a look-ahead, once is as good as any number of times."""
        found: set[tuple[int, ...]] = set()
        for branch in body:
            items = self._replace_borders(branch, None) if is_ahead else branch
            found |= self._expand(items, is_last=is_ahead)
        if len(found) > _MAX_SEQUENCES:
            raise LinearRegexError(f"a look-around with more than {_MAX_SEQUENCES} alternatives")
        return found

    def _expand(self, items: Sequence, *, is_last: bool) -> set[tuple[int, ...]]:
        found: set[tuple[int, ...]] = {()}
        for at, item in enumerate(items):
            ends = self._expand_item(item, is_last=is_last and at == len(items) - 1)
            found = {(*start, *end) for start in found for end in ends}
            if len(found) > _MAX_SEQUENCES:
                break
        return found

    def _expand_item(self, item: Item, *, is_last: bool) -> set[tuple[int, ...]]:
        match item:
            case Symbols(mask):
                return {(mask,)}
            case Edge(kind) if kind in "^$AZ":
                return {(_get_edge_mask(item),)}
            case Group(body):
                return set().union(*(self._expand(branch, is_last=is_last) for branch in body))
            case Look(((Symbols(mask),),), True, True) if is_last:
                return {(ANY_MASK & ~mask,)}
            case Repeat(inner, least, most) if is_last or most is not None:
                counts = range(least, least + 1) if is_last else range(least, (most or 0) + 1)
                if len(counts) > _MAX_STEPS:
                    raise LinearRegexError("a look-around with too many repetitions")
                return set().union(*(self._expand((inner,) * count, is_last=False) for count in counts))
        raise LinearRegexError("a look-around within a look-around, or one that matches any number of characters")


def _join(sequences: list[Sequence]) -> Sequence:
    return sequences[0] if len(sequences) == 1 else (Group(tuple(sequences)),)


def _unite(masks: Iterable[int]) -> int:
    united = 0
    for mask in masks:
        united |= mask
    return united


def _get_edge_mask(edge: Edge) -> int:
    return EDGE_MASK | (_NEWLINE_MASK if edge.is_multiline or edge.kind == "$" else 0)


def _has_look(item: Item, *, is_first: bool = False) -> bool:
    """Whether there is a look-around or a border in the item; `is_first`: at its beginning, and looking back."""
    match item:
        case Symbols():
            return False
        case Look(_, is_ahead):
            return not (is_first and is_ahead)
        case Edge(kind, is_multiline):
            return is_first or (kind == "$" and not is_multiline)
        case Group(body):
            return any(
                _has_look(each, is_first=is_first) for branch in body for each in (branch[:1] if is_first else branch)
            )
        case Repeat(inner):
            return _has_look(inner, is_first=is_first)
    return False


def _has_border(item: Item) -> bool:
    """Whether `\\b` or `\\B` is in the item, outside of its look-arounds."""
    if isinstance(item, Symbols):
        return False
    if isinstance(item, Group):
        return any(_has_border(each) for branch in item.body for each in branch)
    return _has_border(item.item) if isinstance(item, Repeat) else isinstance(item, Edge) and item.kind in "bB"


def _find_end(body: Alternatives, *, is_first: bool) -> tuple[int, bool]:
    """The symbols with which a match begins, or ends; and whether it may be empty."""
    mask, is_optional = 0, False
    for branch in body:
        is_empty = True
        for item in branch if is_first else reversed(branch):
            item_mask, is_empty = _find_end_of_item(item, is_first=is_first)
            mask |= item_mask
            if not is_empty:
                break
        is_optional |= is_empty
    return mask, is_optional


def _find_end_of_item(item: Item, *, is_first: bool) -> tuple[int, bool]:
    match item:
        case Symbols(mask):
            return mask, False
        case Group(body):
            return _find_end(body, is_first=is_first)
        case Repeat(inner, least):
            mask, is_optional = _find_end_of_item(inner, is_first=is_first)
            return mask, is_optional or least == 0
        case Edge(kind) if kind in "^$AZ":
            # In a look-ahead: nothing else follows.
            return _get_edge_mask(item), kind not in "$Z"
    return 0, True
