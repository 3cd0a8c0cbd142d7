"""The turn: a visitor's message and the animal's reply, as an append-only log of typed events.

Values only. This file knows nothing of HTTP, of any wire contract or of how a log is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from openapi_server.models.errors import Problem


class AgeGroup(StrEnum):
    """The visitor's age band; it sets the reading level and, later, the rules."""

    PRESCHOOL = "preschool"
    ELEMENTARY = "elementary"
    MIDDLE = "middle"
    HIGH = "high"
    ADULT = "adult"

    @property
    def rank(self) -> int:
        """0 for the youngest band, 4 for adults."""
        return _RANKS[self]


# Asked of every rule in every turn.
_RANKS = {age_group: rank for rank, age_group in enumerate(AgeGroup)}


class Stage(StrEnum):
    """What the engine is doing for a turn, in the order in which it does it."""

    MODERATION = "moderation"
    RETRIEVAL = "retrieval"
    RERANKING = "reranking"
    GENERATION = "generation"


class FinishReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    STOPPED = "stopped"
    BLOCKED = "blocked"


class TurnStatus(StrEnum):
    """Where a turn stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        return self not in (TurnStatus.QUEUED, TurnStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written by the provider; words where it has no tokens of its own."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Source:
    """A keepers' fact that the reply was built from, and where people can check it."""

    fact_id: str
    topic: str
    type: str
    title: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Moderation:
    """The verdict on what the visitor wrote. Category names, never the text."""

    flagged: bool = False
    categories: tuple[str, ...] = ()


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
