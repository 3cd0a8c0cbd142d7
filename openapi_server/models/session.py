"""What the store keeps: sessions and turns, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from openapi_server.models.errors import Problem
from openapi_server.models.turn import AgeGroup, FinishReason, Moderation, Source, TurnStatus, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A conversation with one animal at a time.

    `owner` is whose it is (`cookie:...`, `user:...`), None for nobody's. It ends `ttl_s` seconds after its last
    message: from then on it is not there, whether it was purged yet or not. `title` and `opening`, the visitor's words
    before the first turn, are what a client may give it. A device's session has a `handle`, the device's name in our
    books, and may change its animal: `locked_at` is when it last did.
    """

    session_id: str
    animal_id: str
    owner: str | None
    created_at: datetime
    last_message_at: datetime
    turn_count: int = 0
    ttl_s: int = 86_400
    title: str | None = None
    opening: str | None = None
    handle: str | None = None
    locked_at: datetime | None = None

    @property
    def expires_at(self) -> datetime:
        return self.last_message_at + timedelta(seconds=self.ttl_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. Written once, before the readers hear of it.

    `model` is the one that spoke; None in a turn that failed, and in those of older versions of the server.
    """

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
    credits_used: int = 0
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn as it is kept: the visitor's message from the start, the outcome from the end.

    While it runs, `worker` is the process that runs it, and `lease_until` is when anyone may take that process for
    dead unless it has renewed the lease. `owner` is its session's: a store fills it in, and never reads it.
    `media_urls` came with the message; nobody here ever fetches them.
    """

    turn_id: str
    session_id: str
    animal_id: str
    age_group: AgeGroup
    message: str
    model: str
    created_at: datetime
    metadata: str | None = None
    worker: str = ""
    lease_until: datetime | None = None
    outcome: Outcome | None = None
    owner: str | None = None
    media_urls: tuple[str, ...] = ()

    @property
    def status(self) -> TurnStatus:
        return self.outcome.status if self.outcome else TurnStatus.RUNNING

    @property
    def updated_at(self) -> datetime:
        return self.outcome.ended_at if self.outcome else self.created_at


@dataclass(frozen=True, slots=True)
class DeviceUser:
    """Whoever holds a device, from its first message on and longer than its sessions. `handle`: `chat_<device>`."""

    user_id: str
    handle: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's promise that two requests are the same one. `key` and `body_hash` are hashes, `key` with its scope."""

    key: str
    body_hash: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """Which process runs a turn, and until when it is believed."""

    turn_id: str
    worker: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `next_cursor` is opaque and None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None = None
