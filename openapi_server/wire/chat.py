"""The chat contract, `/chat`: unnamed events `{type, content, timestamp}`, for clients that read `data: ` lines.

`type` is a stage's start or end, `token` for each piece of the reply, and `done`, `cancelled` or `error` at the end.
The stream is bare, because many of its clients split it at blank lines and take only blocks that begin with `data: `.
Clients that mean to resume it get ids and a retry line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from openapi_server.models.turn import FinishReason, Stage, TurnRecord
from openapi_server.models.turn_events import Chunk, Completed, Entry, Failed, StageChanged
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, encode_comment_heartbeat, encode_id_field, encode_text
from openapi_server.wire.timestamps import format_timestamp

ENCODED_STAGES = (Stage.RETRIEVAL, Stage.RERANKING)


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case StageChanged(stage=stage) as change if stage in ENCODED_STAGES:
            yield _make_frame(entry, f"{stage}_{'complete' if change.is_complete else 'start'}", _encode_stage(change))
        case Chunk(text=text):
            yield _make_frame(entry, "token", text)
        case Completed(finish_reason=FinishReason.STOPPED):
            yield _make_frame(entry, "cancelled", {})
        case Completed():
            yield _make_frame(entry, "done", {})
        case Failed(problem=problem):
            content = {"message": problem.detail, "code": problem.code}
            yield _make_frame(entry, "error", content, problem=encode_problem(problem))


def encode_bare(entry: Entry) -> Iterator[Frame]:
    """The same frames without their ids."""
    return (replace(frame, id=None) for frame in encode(entry))


def encode_chunk(entry: Entry, chunk: Chunk) -> str:
    """The text of the frame that `encode` yields."""
    return encode_id_field(entry) + encode_bare_chunk(entry, chunk)


def encode_bare_chunk(entry: Entry, chunk: Chunk) -> str:
    """The same without the id."""
    timestamp = format_timestamp(entry.at)
    return f'data: {{"type":"token","content":{encode_text(chunk.text)},"timestamp":"{timestamp}"}}\n\n'


def _make_frame(entry: Entry, kind: str, content: object, **beside: object) -> Frame:
    return Frame({"type": kind, "content": content, "timestamp": format_timestamp(entry.at), **beside}, id=entry.id)


def _encode_stage(change: StageChanged) -> dict[str, object]:
    content: dict[str, object] = {"stage": change.stage, "status": "complete" if change.is_complete else "started"}
    if change.stage is Stage.RETRIEVAL and change.is_complete:
        content["doc_count"] = change.found or 0
    return content


def encode_answer(turn: TurnRecord, session_id: str) -> dict[str, object]:
    """The whole reply as JSON. `session_id` is the name that the client gave its session."""
    outcome = turn.outcome
    if outcome is None:
        raise ValueError("the turn has not ended")
    return {
        "response": outcome.reply or "",
        "session_id": session_id,
        "turn_id": turn.turn_id,
        "finish_reason": outcome.finish_reason or FinishReason.STOP,
        "doc_count": len(outcome.sources),
        "timestamp": format_timestamp(outcome.ended_at),
    }


CHAT = Contract("chat", encode, encode_comment_heartbeat, encode_chunk)
BARE_CHAT = Contract("chat", encode_bare, encode_comment_heartbeat, encode_bare_chunk, is_bare=True)
