"""Times as stores keep them, and which of their rows are still visible to a reader."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def encode_time(at: datetime) -> str:
    """ISO 8601 in UTC with microseconds: all texts have one length, so that their order is the order in time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def decode_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class RetentionWindow:
    """What a reader may see. A row outside of it counts as deleted, whether it has been deleted yet or not.

    Both limits are encoded times: a session has expired when its `expires_at` is `now` or earlier, and a turn is too
    old when its `created_at` is `since` or earlier. `since` is empty where turns are kept as long as their session.
    """

    now: str
    since: str = ""

    @classmethod
    def at(cls, now: datetime, retention: timedelta | None) -> RetentionWindow:
        """`retention`: how long turns are kept; None: as long as their session."""
        return cls(encode_time(now), encode_time(now - retention) if retention else "")

    @property
    def parameters(self) -> dict[str, object]:
        """The named parameters `:now` and `:since` of SQL queries."""
        return {"now": self.now, "since": self.since}
