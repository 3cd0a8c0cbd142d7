"""Credits as values: what a turn may cost, what is left, and the entries that say how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CreditEntryKind(StrEnum):
    """Why a balance changed. A turn has one `reserve`, and one `settle` or `refund` that gives back what it left."""

    ALLOCATE = "allocate"
    RESERVE = "reserve"
    SETTLE = "settle"
    REFUND = "refund"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Charge:
    """Who pays for a turn, how many credits it may take (at least 1), and what a token costs. Free turns have none."""

    username: str
    max_credits: int
    credits_per_token: int = 1

    def __post_init__(self) -> None:
        if self.max_credits < 1:
            raise ValueError("a charge is at least one credit")


@dataclass(frozen=True, slots=True)
class Allocation:
    """Credits that somebody is given; `expires_at` is None when they stay for good."""

    username: str
    credits: int
    at: datetime
    expires_at: datetime | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """One change of one balance. `credits` is signed; the sum of a user's entries is what is left."""

    entry_id: str
    username: str
    kind: CreditEntryKind
    credits: int
    at: datetime
    turn_id: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What a user can spend now; `expires_at` is when the next of it is lost, None when none ever is."""

    username: str
    credits: int
    expires_at: datetime | None = None
