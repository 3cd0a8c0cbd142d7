"""Credits: what a turn may cost, what a user has left, and every change of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CreditEntryKind(StrEnum):
    """Why a balance changed. A turn has one `reserve`, then one `settle` or `refund` with the unused credits."""

    ALLOCATE = "allocate"
    RESERVE = "reserve"
    SETTLE = "settle"
    REFUND = "refund"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Charge:
    """Who pays for a turn, the most that it may cost (at least 1 credit), and the price of a token."""

    username: str
    max_credits: int
    credits_per_token: int = 1

    def __post_init__(self) -> None:
        if self.max_credits < 1:
            raise ValueError("a charge is at least one credit")


@dataclass(frozen=True, slots=True)
class Allocation:
    """Credits that are given to a user; `expires_at` is None when they never expire."""

    username: str
    credits: int
    at: datetime
    expires_at: datetime | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class CreditEntry:
    """One change of a balance. `credits` is signed; the balance is the sum of a user's entries."""

    entry_id: str
    username: str
    kind: CreditEntryKind
    credits: int
    at: datetime
    turn_id: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What a user can spend now. `expires_at`: when the next of these credits expire; None when none ever do."""

    username: str
    credits: int
    expires_at: datetime | None = None
