"""The answer to a request with an idempotency key, as it is stored for repetitions of the request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An HTTP answer. `subject`: the id of the session or user whom it is about."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    subject: str | None = None
