"""A turn: one visitor's message and the animal's reply, and what is stored of it.

Values only: no HTTP, no wire format, no storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from openapi_server.models.errors import Problem


class AgeGroup(StrEnum):
    """The visitor's age group: sets the reading level, the wording of facts and which rules apply."""

    PRESCHOOL = "preschool"
    ELEMENTARY = "elementary"
    MIDDLE = "middle"
    HIGH = "high"
    ADULT = "adult"

    @property
    def rank(self) -> int:
        """0 for the youngest group, 4 for adults."""
        return _RANKS[self]


# A table, because the rank is read for every rule in every turn.
_RANKS = {age_group: rank for rank, age_group in enumerate(AgeGroup)}


class Stage(StrEnum):
    """The stages of the pipeline, in order."""

    MODERATION = "moderation"
    RETRIEVAL = "retrieval"
    RERANKING = "reranking"
    GENERATION = "generation"


class FinishReason(StrEnum):
    """Why a reply ended: by itself, at its token limit, stopped by the client, or blocked by moderation."""

    STOP = "stop"
    LENGTH = "length"
    STOPPED = "stopped"
    BLOCKED = "blocked"

    @property
    def turn_status(self) -> TurnStatus:
        """The status of a turn whose reply ended for this reason. `BLOCKED` counts as a success: there is a reply."""
        return TurnStatus.STOPPED if self is FinishReason.STOPPED else TurnStatus.SUCCEEDED


class TurnStatus(StrEnum):
    """The status of a turn. The last three are final."""

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
    """Tokens of the prompt and of the reply, as the provider counts them; words of the reply where it does not.

    The prompt has none where no model reads one, as with the offline provider.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Source:
    """A fact that the reply is based on, and where it can be checked."""

    fact_id: str
    topic: str
    type: str
    title: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Moderation:
    """The result of moderation: names of categories, never the text."""

    flagged: bool = False
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. It is stored once, before the terminal event is appended to the turn's log.

    `model` is the id of the model that generated the reply; None when the turn failed, and in records of server
    versions that did not store it. `progress` is how far a turn that failed had come, in percent; None
    where that is not known: its process died, or an earlier version stored it. `tokens_charged` are those that
    `credits_used` is for; None when nobody pays.
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
    tokens_charged: int | None = None
    model: str | None = None
    progress: int | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as it is stored: the message from the start, the outcome from the end.

    `worker` is the id of the process that runs it. After `lease_until` any other process may settle the turn as
    interrupted, unless its worker has renewed the lease. `owner` is the session's owner: stores fill it in when they
    read a turn, and ignore it when they write one. `media_urls` came with the message; this server never fetches them.
    A turn that `is_bound` needs its caller, also where the id of a visitor's turn is enough.

    A turn that `is_queued` waits for the earlier ones of its session, or ended while it waited. `started_at` is when
    the wait was over; None for a turn that did not wait, or still does.
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
    is_bound: bool = False
    is_queued: bool = False
    started_at: datetime | None = None

    @property
    def status(self) -> TurnStatus:
        if self.outcome is not None:
            return self.outcome.status
        return TurnStatus.QUEUED if self.is_queued else TurnStatus.RUNNING

    @property
    def delivered_at(self) -> datetime:
        """When the animal got the message. In this order a conversation has its messages, whoever had to wait."""
        return self.started_at or self.created_at

    @property
    def problem(self) -> Problem | None:
        """Why the turn failed; None where it has not."""
        return self.outcome.problem if self.outcome else None

    @property
    def updated_at(self) -> datetime:
        return self.outcome.ended_at if self.outcome else self.delivered_at


@dataclass(frozen=True, slots=True)
class TurnOwnership:
    """Of a stored turn what decides who may use it: see `TurnRecord`."""

    session_id: str
    owner: str | None
    is_bound: bool


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's claim that two requests are the same one (header Idempotency-Key, or an id in the body).

    `key` is a hash of the key and its scope, `body_hash` one of the request's body.
    """

    key: str
    body_hash: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """Which process runs a turn, and until when it is presumed alive."""

    turn_id: str
    worker: str
    until: datetime
