"""Credits: what a turn may cost, what a user has left, and every change of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from openapi_server.models.turn import Usage


class CreditEntryKind(StrEnum):
    """Why a balance changed. A turn has one `reserve`, then one `settle` or `refund` with the unused credits."""

    ALLOCATE = "allocate"
    RESERVE = "reserve"
    SETTLE = "settle"
    REFUND = "refund"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """The price in credits of a token of a reply, and of a token of its prompt: 0 where prompts are not charged."""

    credits_per_token: int = 1
    credits_per_prompt_token: int = 0

    def count_tokens(self, usage: Usage) -> int:
        """The tokens that are charged.

        >>> TokenPrice(1, 0).count_tokens(Usage(700, 40)), TokenPrice(5, 1).count_tokens(Usage(700, 40))
        (40, 740)
        """
        return usage.completion_tokens + (usage.prompt_tokens if self.credits_per_prompt_token else 0)

    def compute_credits(self, usage: Usage) -> int:
        """What the tokens cost.

        >>> TokenPrice(1, 0).compute_credits(Usage(700, 40)), TokenPrice(5, 1).compute_credits(Usage(700, 40))
        (40, 900)
        """
        return usage.completion_tokens * self.credits_per_token + usage.prompt_tokens * self.credits_per_prompt_token


@dataclass(frozen=True, slots=True)
class Cost:
    """What a turn costs, and for how many tokens; `tokens` is None where nobody pays."""

    credits: int = 0
    tokens: int | None = None

    def limit(self, credits: int) -> Cost:
        """The part of it that so many credits pay for. The last of its tokens may be paid in part.

        >>> Cost(50, 10).limit(60), Cost(50, 10).limit(12)
        (Cost(credits=50, tokens=10), Cost(credits=12, tokens=3))
        """
        if self.credits <= credits:
            return self
        tokens = None if self.tokens is None else -(-self.tokens * credits // self.credits)
        return Cost(credits, tokens)


NO_COST = Cost()


@dataclass(frozen=True, slots=True)
class Charge:
    """Who pays for a turn, the most that it may cost (at least 1 credit), and the price."""

    username: str
    max_credits: int
    price: TokenPrice = TokenPrice()

    def __post_init__(self) -> None:
        if self.max_credits < 1:
            raise ValueError("a charge is at least one credit")

    def compute_cost(self, usage: Usage) -> Cost:
        return Cost(self.price.compute_credits(usage), self.price.count_tokens(usage))


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
    """One change of a balance. `credits` is signed; the balance is the sum of a user's entries.

    The `settle` entry of a turn has the `tokens` that were charged, and the credits `spent` on it. In other entries,
    and in those of old versions, they are None.
    """

    entry_id: str
    username: str
    kind: CreditEntryKind
    credits: int
    at: datetime
    turn_id: str | None = None
    notes: str | None = None
    tokens: int | None = None
    spent: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What a user can spend now. `expires_at`: when the next of these credits expire; None when none ever do."""

    username: str
    credits: int
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """What a user's turns have cost that ended on a day (UTC). Turns that cost nothing are not counted."""

    day: date
    turns: int
    tokens: int
    credits: int
