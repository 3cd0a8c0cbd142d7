"""Hold text back until its sentence is whole and has passed a check. Pure: times come in as numbers, text goes out.

The one promise: no character leaves that was not checked in its sentence, and nothing leaves once a check has failed.

A sentence that is longer than the bounds leaves in parts. Its last `margin_chars` stay behind then, for whatever
unsafe phrase is shorter than that cannot have begun in what leaves: it would have to end in what was checked. Blanks
and signs that only stretch a phrase do not count (`padding`). Where more of them come than the bounds can hold, its
first words may leave; its last never do, for what was said is looked at again with what follows it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openapi_server.moderation.normalize import remove_padding

TextCheck = Callable[[str], str | None]
"""What is wrong with a text: a category, or None. It is asked about whole words only."""

# A stop ends a sentence when two letters stand before it ("K. i. l. l." does not end four) and a blank behind it, which
# must have come. A number's stop ends none: "555. 12" may be the same number. Chinese and Japanese ones need no blank.
_SENTENCE_END = re.compile(r"(?<=[^\W\d_]{2})[.!?…]+[\"'”’»)\]*_]*(?=\s)|[。！？]")
_BLANK = re.compile(r"\s")
_MAX_CONTEXT_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Released:
    """Text that may go out now, possibly none, in the pieces in which it came. `held_ms`: what its oldest waited."""

    pieces: tuple[str, ...] = ()
    held_ms: float = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Blocked:
    """The check failed: what was held is gone, and nothing more will leave. `category`: what the check said."""

    category: str


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """How much is held back, in characters, and how long, in milliseconds, where a sentence will not end.

    Time alone never sends the last `margin_chars`, so at a slow mind's pace they are what a visitor waits for.
    """

    max_chars: int = 400
    max_wait_ms: float = 1500
    margin_chars: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.margin_chars < self.max_chars:
            raise ValueError("margin_chars must be above 0 and below max_chars")

    @property
    def look_back_chars(self) -> int:
        """How much of what was said is looked at again. A phrase in a code takes nine signs a letter, as bits do."""
        return 3 * self.margin_chars


class OutputBuffer:
    """One reply's gate. Feed it every piece, ask it when it is `due`, and `finish` it."""

    def __init__(self, check: TextCheck, bounds: BufferLimits = BufferLimits()) -> None:
        self._check = check
        self._limits = bounds
        self._pieces: deque[tuple[str, float]] = deque()
        self._held = ""
        self._released = ""
        self._blocked: Blocked | None = None
        # So much was held when time had come and nothing could leave: only more text changes that.
        self._stuck_chars = 0
        self._approved = ""
        self.held_back_ms = 0.0
        """The longest that any character has waited so far."""

    @property
    def held_chars(self) -> int:
        return len(self._held)

    @property
    def due_ms(self) -> float | None:
        """When to ask `due`; None while time alone would send nothing."""
        if self._blocked or len(self._held) <= max(self._limits.margin_chars, self._stuck_chars):
            return None
        return self._pieces[0][1] + self._limits.max_wait_ms

    def check_whole_reply(self, text: str) -> Released | Blocked:
        """Check a whole reply before its first piece: pieces that are the next of it need not wait."""
        category = self._check(text)
        self._approved = "" if category else text
        self._blocked = Blocked(category) if category else self._blocked
        return self._blocked or Released()

    def feed(self, text: str, now_ms: float) -> Released | Blocked:
        """Take a piece of the reply; what may leave with it, or before it."""
        if self._blocked:
            return self._blocked
        if text and not self._held and self._approved.startswith(text):
            self._approved = self._approved[len(text) :]
            self._add_context(text)
            return Released((text,))
        self._approved = ""
        if text:
            self._pieces.append((text, now_ms))
            self._held += text
        end = self._find_last_sentence_end()
        if len(self._held) - end > self._limits.max_chars:
            return self._release_all_but_margin(now_ms)
        return self._release(end, end, now_ms)

    def flush_due(self, now_ms: float) -> Released | Blocked:
        """Time has passed: what has waited too long leaves without the end of its sentence."""
        if self._blocked:
            return self._blocked
        if self.due_ms is None or now_ms < self.due_ms:
            return Released()
        released = self._release_all_but_margin(now_ms)
        if isinstance(released, Released) and not released.pieces:
            self._stuck_chars = len(self._held)
        return released

    def finish(self, now_ms: float) -> Released | Blocked:
        """The reply is over: all that is left, or `Blocked`."""
        return self._blocked or self._release(len(self._held), len(self._held), now_ms)

    def _find_last_sentence_end(self) -> int:
        ends = [found.end() for found in _SENTENCE_END.finditer(self._held)]
        return ends[-1] if ends else 0

    def _release_all_but_margin(self, now_ms: float) -> Released | Blocked:
        """Check up to the last whole word, and cut at a blank that is a margin before it."""
        checked = _find_last_blank(self._held, len(self._held))
        cut = _find_last_blank(self._held, self._find_margin_start(checked))
        if cut == 0 and len(self._held) > self._limits.max_chars:
            # A word without end: nothing but a cut inside it keeps the bound.
            checked = len(self._held)
            cut = checked - self._limits.margin_chars
        return self._release(cut, checked, now_ms)

    def _find_margin_start(self, checked: int) -> int:
        """Where the last `margin_chars` before `checked` begin, padding not counted; 0 when there are not so many."""
        margin = self._limits.margin_chars
        start = checked - margin
        while start > 0 and (missing := margin - len(remove_padding(self._held[start:checked]))) > 0:
            start -= missing
        return max(start, 0)

    def _release(self, cut: int, checked: int, now_ms: float) -> Released | Blocked:
        if cut == 0:
            return Released()
        self._trim_context()
        category = self._check(self._released + self._held[:checked])
        if category is not None:
            self._blocked = Blocked(category)
            self._held = ""
            self._pieces.clear()
            return self._blocked
        return self._emit(cut, now_ms)

    def _emit(self, cut: int, now_ms: float) -> Released:
        self._add_context(self._held[:cut])
        self._stuck_chars = 0
        held_ms = now_ms - self._pieces[0][1]
        self.held_back_ms = max(self.held_back_ms, held_ms)
        pieces = tuple(self._take_pieces(cut))
        self._held = self._held[cut:]
        return Released(pieces, held_ms)

    def _add_context(self, text: str) -> None:
        """What was said is looked at again with what follows it, further back than a phrase can reach."""
        self._released += text
        # Shortened before each check; a reply that is known whole has none after the first.
        if len(self._released) > _MAX_CONTEXT_CHARS:
            self._trim_context()

    def _trim_context(self) -> None:
        self._released = _take_tail(remove_padding(self._released), self._limits.look_back_chars)

    def _take_pieces(self, count: int) -> Iterator[str]:
        """The first `count` characters in their pieces; of one that is cut, the rest keeps its time."""
        while count > 0:
            text, at_ms = self._pieces.popleft()
            if len(text) > count:
                self._pieces.appendleft((text[count:], at_ms))
                text = text[:count]
            count -= len(text)
            yield text


def split_sentences(text: str) -> Iterator[str]:
    """The text in the parts in which the gate releases it, when no bound is in its way.

    >>> list(split_sentences("I run. You? Well"))
    ['I run.', ' You?', ' Well']
    """
    start = 0
    for found in _SENTENCE_END.finditer(text):
        yield text[start : found.end()]
        start = found.end()
    yield text[start:]


def _find_last_blank(text: str, before: int) -> int:
    """The place behind the last blank that ends before `before`; 0 when there is none."""
    return next((at for at in range(before, 0, -1) if _BLANK.match(text, at - 1)), 0)


def _take_tail(text: str, most: int) -> str:
    """The last whole words of the text, for half of one could be a word that nobody said; of one without end, half."""
    if len(text) <= most:
        return text
    first_blank = _BLANK.search(text, len(text) - most)
    return text[first_blank.end() :] if first_blank else text[-most:]
