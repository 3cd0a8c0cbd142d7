"""Log entries as bytes: `FORMAT TYPE TIME JSON`, in one line.

A process reads its own format and the one before, so that processes of two versions can run side by side. A field that
is new and has a default needs no new format: readers ignore fields that they do not know. Anything else does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Entry,
    Failed,
    StageChanged,
    Started,
    TurnEvent,
    TypingStarted,
    TypingStopped,
)

FORMAT = 1
# There is no format before the first one.
READABLE_FORMATS = frozenset({FORMAT})

_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (Started, TypingStarted, TypingStopped, StageChanged, Chunk, Completed, Failed)
}


class UnreadableEntry(Exception):
    """An entry of a process whose version is too far from this one's."""


def encode_entry(at: datetime, event: TurnEvent, entry_format: int = FORMAT) -> bytes:
    """The event and its time. JSON escapes line ends, so entries can be joined by them."""
    name = type(event).__name__
    return b"%d %s %s %s" % (entry_format, name.encode(), at.isoformat().encode(), _ADAPTERS[name].dump_json(event))


def decode_entry(turn_id: str, seq: int, data: bytes) -> Entry:
    """The entry with this number. Raises `UnreadableEntry`.

    >>> from datetime import UTC
    >>> decode_entry("turn_a", 3, encode_entry(datetime(2026, 11, 30, tzinfo=UTC), Chunk(1, "Roar"))).event
    Chunk(index=1, text='Roar')
    """
    parts = data.split(b" ", 3)
    if len(parts) != 4 or not parts[0].isdigit() or int(parts[0]) not in READABLE_FORMATS:
        raise UnreadableEntry
    try:
        event: TurnEvent = _ADAPTERS[parts[1].decode()].validate_json(parts[3])
        return Entry(turn_id, seq, datetime.fromisoformat(parts[2].decode()), event)
    except (KeyError, ValidationError, ValueError):
        raise UnreadableEntry from None
