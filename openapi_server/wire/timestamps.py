"""Times on the wire: RFC 3339, UTC, milliseconds, `Z`; and the one form that a client knows from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime


def format_timestamp(at: datetime) -> str:
    """
    >>> iso_millis(datetime(2025, 11, 6, 10, 30, 40, 1999, tzinfo=UTC))
    '2025-11-06T10:30:40.001Z'
    """
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def format_naive_timestamp(at: datetime) -> str:
    """UTC without saying so, in microseconds: what the devices' clients have always been sent.

    >>> naive_micros(datetime(2025, 10, 1, 14, 24, 19, 941641, tzinfo=UTC))
    '2025-10-01T14:24:19.941641'
    """
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
