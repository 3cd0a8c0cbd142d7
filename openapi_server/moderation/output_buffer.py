"""Holds back the text of a reply until its sentence is complete and has passed a check.

Pure: times come in as numbers (milliseconds), and text goes out. Invariant: no character leaves before the sentence it
is in was checked, and nothing leaves once a check has failed.

A sentence that is longer than the limits leaves in parts. Its last `margin_chars` stay behind then: an unsafe phrase
that is shorter than the margin cannot have begun in the part that leaves, because it would have ended in what was
checked. Padding (blanks and signs that only stretch a phrase, `normalize.remove_padding`) does not count. Where there
is more padding than the limits can hold, the first words of a phrase may leave; its last never do, because text that
has left is checked again together with what follows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openapi_server import linear_regex
from openapi_server.moderation.normalize import remove_padding

TextCheck = Callable[[str], str | None]
"""Returns the category of what is wrong with a text, or None. It is called with whole words only."""

# A full stop ends a sentence when two letters stand before it ("K. i. l. l." is not four sentences) and a blank behind
# it that has already arrived. Behind a digit it ends none ("555. 12" may be one number). Chinese and Japanese full
# stops need no blank.
_SENTENCE_END = linear_regex.compile(r"[^\W\d_]{2}[.!?…]+[\"'”’»)\]*_]*(?=\s)|[。！？]")
# Behind a digit or a single letter, a sentence ends where a word of two letters and another one follow: then it is no
# part of a number or of a word in single letters.
_SHORT_SENTENCE_END = linear_regex.compile(r"\w[.!?…]+[\"'”’»)\]*_]*(?=\s)")
_TWO_WORDS = linear_regex.compile(r"\s+[^\W\d_]\w\S*\s+\S+\s")
_BLANK = linear_regex.compile(r"\s")
_MAX_CONTEXT_CHARS = 2_000
_MAX_EXACT_ROUNDS = 8


@dataclass(slots=True)
class Released:
    """Text that may leave now, possibly none, in the pieces in which it came. `held_ms`: how long its oldest waited.

    Nothing in it changes; it is not frozen, because that takes longer, and there is one for each piece.
    """

    pieces: tuple[str, ...] = ()
    held_ms: float = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Blocked:
    """The check failed: held text is discarded, and nothing more leaves. `category` is the result of the check."""

    category: str


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """How much of an unfinished sentence is held back (characters), and how long (milliseconds).

    Time alone never releases the last `margin_chars`: with a slow model, they are what a visitor waits for.
    """

    max_chars: int = 400
    max_wait_ms: float = 1500
    margin_chars: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.margin_chars < self.max_chars:
            raise ValueError("margin_chars must be above 0 and below max_chars")

    @property
    def look_back_chars(self) -> int:
        """How much released text is checked again. An encoded phrase takes up to nine characters a letter (binary)."""
        return 3 * self.margin_chars


class OutputBuffer:
    """The buffer of one reply: `feed` it every piece, call `flush_due` at `due_ms`, and `finish` it."""

    def __init__(self, check: TextCheck, limits: BufferLimits = BufferLimits()) -> None:
        self._check = check
        self._limits = limits
        self._pieces: deque[tuple[str, float]] = deque()
        self._held = ""
        self._context = ""
        self._blocked: Blocked | None = None
        # How much was held when text was due and nothing could leave. Only more text changes that.
        self._stuck_chars = 0
        # Of a reply that was checked as a whole: how much of it has left. Cutting it shorter takes quadratic time.
        self._approved, self._approved_at = "", 0
        self.held_back_ms = 0.0
        """The longest time that any character has waited so far."""

    @property
    def held_chars(self) -> int:
        return len(self._held)

    @property
    def due_ms(self) -> float | None:
        """When to call `flush_due`; None while time alone would release nothing."""
        if not self._held or self._blocked or len(self._held) <= max(self._limits.margin_chars, self._stuck_chars):
            return None
        return self._pieces[0][1] + self._limits.max_wait_ms

    def find_category(self, text: str) -> str | None:
        """The result of the check of a text. Changes nothing, so a thread may do it."""
        return self._check(text)

    def accept_whole_reply(self, text: str, category: str | None) -> Released | Blocked:
        """A reply that is known before its first piece, with the result of its check.

        Pieces that continue it are released at once.
        """
        self._approved, self._approved_at = ("" if category else text), 0
        self._blocked = Blocked(category) if category else self._blocked
        return self._blocked or Released()

    def feed(self, text: str, now_ms: float) -> Released | Blocked:
        """Add a piece of the reply. Returns what may leave now."""
        if self._blocked:
            return self._blocked
        if text and not self._held and self._approved.startswith(text, self._approved_at):
            self._approved_at += len(text)
            self._add_context(text)
            return Released((text,))
        self._approved, self._approved_at = "", 0
        if text:
            self._pieces.append((text, now_ms))
            self._held += text
        end = self._find_last_sentence_end()
        if len(self._held) - end > self._limits.max_chars:
            return self._release_all_but_margin(now_ms)
        short_end = max(_iterate_short_sentence_ends(self._held), default=0)
        if short_end > end:
            return self._release(short_end, _find_last_blank(self._held, len(self._held)), now_ms)
        return self._release(end, end, now_ms)

    def flush_due(self, now_ms: float) -> Released | Blocked:
        """Release what has waited for `max_wait_ms`, without the end of its sentence."""
        if self._blocked:
            return self._blocked
        if self.due_ms is None or now_ms < self.due_ms:
            return Released()
        released = self._release_all_but_margin(now_ms)
        if isinstance(released, Released) and not released.pieces:
            self._stuck_chars = len(self._held)
        return released

    def finish(self, now_ms: float) -> Released | Blocked:
        """The reply is complete: release all that is left."""
        return self._blocked or self._release(len(self._held), len(self._held), now_ms)

    def _find_last_sentence_end(self) -> int:
        return max((found.end() for found in _SENTENCE_END.finditer(self._held)), default=0)

    def _release_all_but_margin(self, now_ms: float) -> Released | Blocked:
        """Check up to the last whole word, and release up to a blank that is a margin before it."""
        checked = _find_last_blank(self._held, len(self._held))
        cut = _find_last_blank(self._held, self._find_margin_start(checked))
        if cut == 0 and len(self._held) > self._limits.max_chars:
            # One endless word: only a cut inside it keeps the limit.
            checked = len(self._held)
            cut = checked - self._limits.margin_chars
        return self._release(cut, checked, now_ms)

    def _find_margin_start(self, checked: int) -> int:
        """Where the last `margin_chars` before `checked` begin, not counting padding; 0 when there are fewer."""
        margin = self._limits.margin_chars
        start = checked - margin
        rounds = 0
        while start > 0 and (missing := margin - len(remove_padding(self._held[start:checked]))) > 0:
            # Nothing but padding, character by character, would take quadratic time.
            start -= missing if rounds < _MAX_EXACT_ROUNDS else max(missing, checked - start)
            rounds += 1
        return max(start, 0)

    def _release(self, cut: int, checked: int, now_ms: float) -> Released | Blocked:
        if cut == 0:
            return Released()
        self._trim_context()
        category = self._check(self._context + self._held[:checked])
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
        """Keep released text, to be checked again with what follows: further back than a phrase can reach."""
        self._context += text
        # It is trimmed before each check, but a reply that was checked as a whole has no further check.
        if len(self._context) > _MAX_CONTEXT_CHARS:
            self._trim_context()

    def _trim_context(self) -> None:
        self._context = _take_tail(remove_padding(self._context), self._limits.look_back_chars)

    def _take_pieces(self, count: int) -> Iterator[str]:
        """The first `count` characters in their pieces. The rest of a piece that is cut keeps its time of arrival."""
        while count > 0:
            text, at_ms = self._pieces.popleft()
            if len(text) > count:
                self._pieces.appendleft((text[count:], at_ms))
                text = text[:count]
            count -= len(text)
            yield text


def split_into_releases(text: str) -> Iterator[str]:
    """The parts in which the buffer releases the text when it reaches no limit.

    >>> list(split_into_releases("I run. You? Well"))
    ['I run.', ' You?', ' Well']
    """
    ends = {found.end() for found in _SENTENCE_END.finditer(text)} | {*_iterate_short_sentence_ends(text)}
    start = 0
    for end in sorted(ends):
        yield text[start:end]
        start = end
    yield text[start:]


def _iterate_short_sentence_ends(text: str) -> Iterator[int]:
    for found in _SHORT_SENTENCE_END.finditer(text):
        if _TWO_WORDS.match(text, found.end()):
            yield found.end()


def _find_last_blank(text: str, before: int) -> int:
    """The position behind the last blank that ends before `before`; 0 when there is none."""
    return next((at for at in range(before, 0, -1) if text[at - 1].isspace()), 0)


def _take_tail(text: str, most: int) -> str:
    """The last whole words of the text, for half of one could be another word; of one endless word, its last half."""
    if len(text) <= most:
        return text
    first_blank = _BLANK.search(text, len(text) - most)
    return text[first_blank.end() :] if first_blank else text[-most:]
