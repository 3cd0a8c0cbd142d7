"""The events of a turn, the log entries that hold them, and the state that a log adds up to.

Values and pure functions; times come in as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from itertools import groupby
from typing import ClassVar

from openapi_server.models.errors import Problem
from openapi_server.models.turn import AgeGroup, FinishReason, Moderation, Source, Stage, TurnStatus, Usage


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """Something that happened in a turn. A terminal event is the last one."""

    is_terminal: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Started(TurnEvent):
    """The first event: the turn was accepted. `disclosure` tells the visitor that a computer program replies.

    `session_name`: the client's own name for the session, where it has one and answers use it.
    """

    turn_id: str
    session_id: str
    animal_id: str
    animal_name: str
    model: str
    age_group: AgeGroup
    disclosure: str
    session_name: str | None = None


@dataclass(frozen=True, slots=True)
class TypingStarted(TurnEvent):
    """The typing indicator starts."""


@dataclass(frozen=True, slots=True)
class TypingStopped(TurnEvent):
    """The typing indicator stops: before the first chunk, or before the end of a turn without one."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class StageChanged(TurnEvent):
    """A stage of the pipeline began or was completed.

    `progress` is from 0 to 100 and never decreases. `found` is a number of facts.
    """

    stage: Stage
    is_complete: bool
    progress: int
    detail: str
    found: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk(TurnEvent):
    """A piece of the reply. `index` counts from 1. All texts joined are exactly the reply."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Completed(TurnEvent):
    """The turn ended with a reply, and the reply is stored.

    `model` is the one that generated the reply: not the one in `Started` if that one failed. `held_back_ms` is the
    longest time that a piece of the reply was buffered for moderation. `tokens_charged` is None where nobody pays.
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
    tokens_charged: int | None = None


@dataclass(frozen=True, slots=True)
class Failed(TurnEvent):
    """The turn ended without a complete reply. The problem never quotes a provider's or a driver's error text."""

    is_terminal: ClassVar[bool] = True

    problem: Problem


@dataclass(slots=True)
class Entry:
    """An event in the log of its turn. Nothing in it changes; it is not frozen, because that takes longer.

    `seq` counts from 1 without gaps; `at` is in UTC. The entry's bytes are kept with it for the third reader and all
    further ones: most turns have one reader, who needs them once, and they take as much memory as the entry does.
    `encoded` are those of `contract`, which has been read; `also_encoded` those of other contracts.
    """

    turn_id: str
    seq: int
    at: datetime
    event: TurnEvent
    # Nearly all entries are read in one contract, and a dictionary takes as much memory as the rest of an entry.
    contract: str | None = field(default=None, compare=False, repr=False)
    encoded: bytes | None = field(default=None, compare=False, repr=False)
    also_encoded: dict[str, bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"{self.turn_id}-{self.seq}"

    def get_encoded(self, contract: str) -> bytes | None:
        """The bytes that were kept for the contract; None when there are none yet."""
        if self.contract == contract:
            return self.encoded
        return self.also_encoded.get(contract) if self.also_encoded else None

    def keep_encoded(self, contract: str, encoded: bytes) -> None:
        """Keep the bytes, unless they are the first that were made."""
        if self.contract is None:
            self.contract = contract
        elif self.contract == contract:
            self.encoded = encoded
        elif self.also_encoded is None:
            self.also_encoded = {contract: encoded}
        else:
            self.also_encoded[contract] = encoded


@dataclass(frozen=True, slots=True)
class TurnState:
    """The state of a turn as its log shows it, for clients that poll."""

    status: TurnStatus = TurnStatus.QUEUED
    stage: Stage | None = None
    progress: int = 0
    reply: str = ""
    chunk_count: int = 0
    last_seq: int = 0
    terminal_event: Completed | Failed | None = None

    def apply(self, entry: Entry) -> TurnState:
        """The state after one more entry."""
        state = replace(self, last_seq=entry.seq)
        match entry.event:
            case StageChanged(stage=stage, progress=progress):
                return replace(state, status=TurnStatus.RUNNING, stage=stage, progress=progress)
            case Chunk(text=text):
                return replace(state, reply=state.reply + text, chunk_count=state.chunk_count + 1)
            case Completed() as done:
                status = done.finish_reason.turn_status
                return replace(state, status=status, progress=100, reply=done.reply, terminal_event=done)
            case Failed() as failed:
                return replace(state, status=TurnStatus.FAILED, terminal_event=failed)
            case _:
                return replace(state, status=TurnStatus.RUNNING)


def fold(entries: Iterable[Entry]) -> TurnState:
    """The state after these entries: a whole log, or the beginning of one."""
    state = TurnState()
    for is_text, group in groupby(entries, key=lambda entry: isinstance(entry.event, Chunk)):
        add = _add_texts if is_text else _add_events
        state = add(state, tuple(group))
    return state


def _add_events(state: TurnState, entries: Sequence[Entry]) -> TurnState:
    return reduce(TurnState.apply, entries, state)


def _add_texts(state: TurnState, entries: Sequence[Entry]) -> TurnState:
    """Joined at once: to add one piece after the other would take time quadratic in their number."""
    texts = [entry.event.text for entry in entries if isinstance(entry.event, Chunk)]
    reply, count = "".join([state.reply, *texts]), state.chunk_count + len(texts)
    return replace(state, reply=reply, chunk_count=count, last_seq=entries[-1].seq)
