"""What the store keeps: sessions and turns, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from openapi_server.errors import Problem
from openapi_server.turn import (
    AgeGroup,
    FinishReason,
    Moderation,
    Source,
    TurnStatus,
    Usage,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A conversation with one animal. `owner` is whose it is (`cookie:...`, `user:...`), None for nobody's."""

    session_id: str
    animal_id: str
    owner: str | None
    created_at: datetime
    last_message_at: datetime
    turn_count: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. Written once, before the readers hear of it."""

    status: TurnStatus
    ended_at: datetime
    reply: str | None = None
    finish_reason: FinishReason | None = None
    sources: tuple[Source, ...] = ()
    usage: Usage = Usage()
    moderation: Moderation = Moderation()
    latency_ms: int = 0
    first_token_ms: int | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn as it is kept: the visitor's message from the start, the outcome from the end."""

    turn_id: str
    session_id: str
    animal_id: str
    age_group: AgeGroup
    message: str
    model: str
    created_at: datetime
    metadata: str | None = None
    outcome: Outcome | None = None

    @property
    def status(self) -> TurnStatus:
        return self.outcome.status if self.outcome else TurnStatus.RUNNING

    @property
    def updated_at(self) -> datetime:
        return self.outcome.ended_at if self.outcome else self.created_at


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `next_cursor` is opaque and None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None = None
