"""A turn: one visitor's message and the animal's reply, and what is stored of it.

Values only: no HTTP, no wire format, no storage.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

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


def make_id(prefix: str) -> str:
    """An id that cannot be guessed (128 random bits): holding a session's or a turn's id is the right to it."""
    return f"{prefix}_{secrets.token_hex(16)}"


def shorten_id(turn_id: str) -> str:
    """Enough of an id to tell turns apart in a log, too little to use it: the whole id is a key to the turn."""
    return turn_id[:13]
