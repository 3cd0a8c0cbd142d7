"""The devices contract, `/chat/stream`: unnamed events `{content, timestamp, is_final}`, the last one empty."""

from __future__ import annotations

from collections.abc import Iterator

from openapi_server.models.session import SessionRecord
from openapi_server.models.turn_events import Chunk, Completed, Entry, Failed
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, encode_comment_heartbeat, encode_id_field, encode_text
from openapi_server.wire.timestamps import format_naive_timestamp, format_timestamp


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case Chunk(text=text):
            yield _make_frame(entry, text, is_final=False)
        case Completed():
            yield _make_frame(entry, "", is_final=True)
        case Failed(problem=problem):
            yield _make_frame(entry, "", is_final=True, error=encode_problem(problem))


def encode_chunk(entry: Entry, chunk: Chunk) -> str:
    """The text of the frame that `encode` yields."""
    timestamp = format_naive_timestamp(entry.at)
    data = f'{{"content":{encode_text(chunk.text)},"timestamp":"{timestamp}","is_final":false}}'
    return f"{encode_id_field(entry)}data: {data}\n\n"


def _make_frame(entry: Entry, content: str, *, is_final: bool, **beside: object) -> Frame:
    body = {"content": content, "timestamp": format_naive_timestamp(entry.at), "is_final": is_final, **beside}
    return Frame(body, id=entry.id)


def encode_reply(completed: Completed) -> dict[str, object]:
    """The JSON answer of `POST /chat/`."""
    return {"content": completed.reply}


def encode_session(session: SessionRecord) -> dict[str, object]:
    return {
        "device": session.handle or "",
        "active_animal": session.animal_id,
        "locked_at": format_timestamp(session.locked_at or session.created_at),
        "session_ttl": session.ttl_s,
        "last_message_at": format_timestamp(session.last_message_at),
        "message_count": session.turn_count,
    }


DEVICES = Contract("devices", encode, encode_comment_heartbeat, encode_chunk)
