"""How far back the store looks: what lies behind its horizon is not there for any reader, purged or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from openapi_server.storage.sqlite.rows import encode_time


@dataclass(frozen=True, slots=True)
class RetentionWindow:
    """Two stamps: sessions end at `now`, and what was said at `since` or before is too old to be kept."""

    now: str
    since: str = ""

    @classmethod
    def at(cls, now: datetime, retention: timedelta | None) -> RetentionWindow:
        """`retention`: how long what was said is kept; None: as long as its session."""
        return cls(encode_time(now), encode_time(now - retention) if retention else "")

    @property
    def parameters(self) -> dict[str, object]:
        """For the queries that judge by it."""
        return {"now": self.now, "since": self.since}
