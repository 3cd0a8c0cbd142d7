"""Times as text: RFC 3339 in UTC with milliseconds, and the form that the devices contract prescribes."""

from __future__ import annotations

from datetime import UTC, datetime


def format_timestamp(at: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds and `Z`.

    >>> format_timestamp(datetime(2025, 11, 6, 10, 30, 40, 1999, tzinfo=UTC))
    '2025-11-06T10:30:40.001Z'
    """
    return _drop_offset(at, "milliseconds") + "Z"


def format_naive_timestamp(at: datetime) -> str:
    """UTC without a time zone, with microseconds: what the devices' clients expect.

    >>> format_naive_timestamp(datetime(2025, 10, 1, 14, 24, 19, 941641, tzinfo=UTC))
    '2025-10-01T14:24:19.941641'
    """
    return _drop_offset(at, "microseconds")


def _drop_offset(at: datetime, precision: str) -> str:
    in_utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return in_utc.isoformat(timespec=precision).removesuffix("+00:00")
