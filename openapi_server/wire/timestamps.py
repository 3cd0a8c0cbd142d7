"""Times on the wire: RFC 3339, UTC, milliseconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_millis(at: datetime) -> str:
    """
    >>> iso_millis(datetime(2025, 11, 6, 10, 30, 40, 1999, tzinfo=UTC))
    '2025-11-06T10:30:40.001Z'
    """
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
