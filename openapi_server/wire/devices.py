"""The devices' contract: unnamed events `{content, timestamp, is_final}`, the last of them empty and final."""

from __future__ import annotations

from collections.abc import Iterator

from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import Chunk, Completed, Entry, Failed
from openapi_server.wire.problem import problem_object
from openapi_server.wire.sse import Contract, Frame, quiet_heartbeat
from openapi_server.wire.timestamps import iso_millis, naive_micros


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case Chunk(text=text):
            yield _frame(entry, text, is_final=False)
        case Completed():
            yield _frame(entry, "", is_final=True)
        case Failed(problem=problem):
            yield _frame(entry, "", is_final=True, error=problem_object(problem))


def _frame(entry: Entry, content: str, *, is_final: bool, **beside: object) -> Frame:
    body = {"content": content, "timestamp": naive_micros(entry.at), "is_final": is_final, **beside}
    return Frame(body, id=entry.id)


def session_object(session: SessionRecord) -> dict[str, object]:
    return {
        "device": session.handle or "",
        "active_animal": session.animal_id,
        "locked_at": iso_millis(session.locked_at or session.created_at),
        "session_ttl": session.ttl_s,
        "last_message_at": iso_millis(session.last_message_at),
        "message_count": session.turn_count,
    }


DEVICES = Contract("devices", encode, quiet_heartbeat)
