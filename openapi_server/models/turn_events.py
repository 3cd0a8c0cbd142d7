"""The events of a turn, the log entries that hold them, and the order in which they are written.

Values and pure functions; times come in as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

from openapi_server.models.errors import ChatError, Problem
from openapi_server.models.turn import AgeGroup, FinishReason, Moderation, Source, Stage, TurnStatus, Usage


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """One thing that happened in a turn."""

    is_terminal: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Started(TurnEvent):
    """The turn was accepted and the visitor's message is stored. Always the first event."""

    turn_id: str
    session_id: str
    animal_id: str
    animal_name: str
    model: str
    age_group: AgeGroup
    disclosure: str


@dataclass(frozen=True, slots=True)
class TypingStarted(TurnEvent):
    """The animal begins to think."""


@dataclass(frozen=True, slots=True)
class TypingStopped(TurnEvent):
    """The animal begins to speak, or never will."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class StageChanged(TurnEvent):
    """A stage of the engine began or ended. `progress` is 0 to 100 and never falls; `found` counts facts."""

    stage: Stage
    is_complete: bool
    progress: int
    detail: str
    found: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk(TurnEvent):
    """A piece of the reply; `index` counts from 1. All texts joined are the reply, to the character."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Completed(TurnEvent):
    """The animal finished and the reply is stored. Carries the whole reply, so late readers need no folding.

    `model` is the one that spoke, which is another than the announced one where that has failed. `held_back_ms`: the
    longest that a word of the reply waited to be checked.
    """

    is_terminal: ClassVar[bool] = True

    turn_id: str
    session_id: str
    reply: str
    chunk_count: int
    finish_reason: FinishReason
    sources: tuple[Source, ...]
    usage: Usage
    moderation: Moderation
    latency_ms: int
    first_token_ms: int | None
    model: str = ""
    held_back_ms: int = 0


@dataclass(frozen=True, slots=True)
class Failed(TurnEvent):
    """The turn ended without a whole reply. The problem is ours, never a provider's or a driver's own text."""

    is_terminal: ClassVar[bool] = True

    problem: Problem


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in its place in one turn's log.

    `seq` counts from 1 without gaps; `at` is in UTC. `encoded` keeps the bytes that encoders made of this
    entry, by encoder: an entry is encoded once per contract, however many readers it has.
    """

    turn_id: str
    seq: int
    at: datetime
    event: TurnEvent
    encoded: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"{self.turn_id}-{self.seq}"


@dataclass(frozen=True, slots=True)
class TurnState:
    """What polling shows: the events so far, folded into one picture."""

    status: TurnStatus = TurnStatus.QUEUED
    stage: Stage | None = None
    progress: int = 0
    reply: str = ""
    chunk_count: int = 0
    last_seq: int = 0
    terminal_event: Completed | Failed | None = None

    def apply(self, entry: Entry) -> TurnState:
        """The picture once one more entry is known."""
        seen = replace(self, last_seq=entry.seq)
        match entry.event:
            case StageChanged(stage=stage, progress=progress):
                return replace(seen, status=TurnStatus.RUNNING, stage=stage, progress=progress)
            case Chunk(text=text):
                return replace(seen, reply=seen.reply + text, chunk_count=seen.chunk_count + 1)
            case Completed() as done:
                stopped = done.finish_reason is FinishReason.STOPPED
                status = TurnStatus.STOPPED if stopped else TurnStatus.SUCCEEDED
                return replace(seen, status=status, progress=100, reply=done.reply, terminal_event=done)
            case Failed() as failed:
                return replace(seen, status=TurnStatus.FAILED, terminal_event=failed)
            case _:
                return replace(seen, status=TurnStatus.RUNNING)


def fold(entries: Iterable[Entry]) -> TurnState:
    """Fold a log, or the beginning of one, into the state that polling shows."""
    state = TurnState()
    for entry in entries:
        state = state.apply(entry)
    return state


# How far the turn is when a stage begins and when it ends, in percent of the way, not of the time.
STAGE_PROGRESS: dict[Stage, tuple[int, int]] = {
    Stage.MODERATION: (5, 10),
    Stage.RETRIEVAL: (15, 25),
    Stage.RERANKING: (35, 50),
    Stage.GENERATION: (75, 100),
}


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What is known only at the end of a turn. `model`: the one that spoke, None for the one that was announced.

    `fact_ids`: the facts that it spoke from, None for all that it was given. `held_back_ms`: the longest that a word
    of the reply waited to be checked.
    """

    finish_reason: FinishReason = FinishReason.STOP
    sources: tuple[Source, ...] = ()
    usage: Usage = Usage()
    moderation: Moderation = Moderation()
    model: str | None = None
    fact_ids: tuple[str, ...] | None = None
    held_back_ms: int = 0


class TurnEventBuilder:
    """Writes one turn's events: numbers the chunks, joins the reply, stops the typing before the first word.

    Every method returns the events to append, in order; after `complete` or `fail` there is nothing more to say.
    `elapsed_ms` is the time since the turn began.
    """

    def __init__(self, started: Started) -> None:
        self.started = started
        self._texts: list[str] = []
        self._typing_since_ms: int | None = None
        self.first_token_ms: int | None = None

    @property
    def reply(self) -> str:
        return "".join(self._texts)

    def start(self, elapsed_ms: int = 0) -> list[TurnEvent]:
        self._typing_since_ms = elapsed_ms
        return [self.started, TypingStarted()]

    def change_stage(
        self, stage: Stage, *, is_complete: bool, detail: str, found: int | None = None
    ) -> list[TurnEvent]:
        return [StageChanged(stage, is_complete, STAGE_PROGRESS[stage][is_complete], detail, found)]

    def add_text(self, text: str, elapsed_ms: int) -> list[TurnEvent]:
        """A piece of the reply. An empty piece says nothing and makes no event."""
        if not text:
            return []
        if self.first_token_ms is None:
            self.first_token_ms = elapsed_ms
        stopped = list(self._stop_typing(elapsed_ms))
        self._texts.append(text)
        return [*stopped, Chunk(len(self._texts), text)]

    def complete(self, result: TurnResult, elapsed_ms: int) -> list[TurnEvent]:
        stopped = list(self._stop_typing(elapsed_ms))
        completed = Completed(
            turn_id=self.started.turn_id,
            session_id=self.started.session_id,
            reply=self.reply,
            chunk_count=len(self._texts),
            finish_reason=result.finish_reason,
            sources=result.sources,
            usage=result.usage,
            moderation=result.moderation,
            latency_ms=elapsed_ms,
            first_token_ms=self.first_token_ms,
            model=result.model or self.started.model,
            held_back_ms=result.held_back_ms,
        )
        return [*stopped, completed]

    def fail(self, error: ChatError, elapsed_ms: int) -> list[TurnEvent]:
        return [*self._stop_typing(elapsed_ms), Failed(error.problem)]

    def _stop_typing(self, elapsed_ms: int) -> Iterator[TurnEvent]:
        if self._typing_since_ms is not None:
            yield TypingStopped(elapsed_ms - self._typing_since_ms)
            self._typing_since_ms = None
