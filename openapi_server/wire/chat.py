"""The token stream's contract: unnamed events `{type, content, timestamp}`, for clients that read `data: ` lines."""

from __future__ import annotations

from collections.abc import Iterator

from openapi_server.models.session import TurnRecord
from openapi_server.models.turn import Chunk, Completed, Entry, Failed, FinishReason, Stage, StageChanged
from openapi_server.wire.problem import problem_object
from openapi_server.wire.sse import Contract, Frame, quiet_heartbeat
from openapi_server.wire.timestamps import iso_millis

SHOWN_STAGES = (Stage.RETRIEVAL, Stage.RERANKING)


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case StageChanged(stage=stage) as change if stage in SHOWN_STAGES:
            yield _frame(entry, f"{stage}_{'complete' if change.is_complete else 'start'}", _stage(change))
        case Chunk(text=text):
            yield _frame(entry, "token", text)
        case Completed(finish_reason=FinishReason.STOPPED):
            yield _frame(entry, "cancelled", {})
        case Completed():
            yield _frame(entry, "done", {})
        case Failed(problem=problem):
            content = {"message": problem.detail, "code": problem.code}
            yield _frame(entry, "error", content, problem=problem_object(problem))


def _frame(entry: Entry, kind: str, content: object, **beside: object) -> Frame:
    return Frame({"type": kind, "content": content, "timestamp": iso_millis(entry.at), **beside}, id=entry.id)


def _stage(change: StageChanged) -> dict[str, object]:
    content: dict[str, object] = {"stage": change.stage, "status": "complete" if change.is_complete else "started"}
    if change.stage is Stage.RETRIEVAL and change.is_complete:
        content["doc_count"] = change.found or 0
    return content


def answer_object(turn: TurnRecord, session_id: str) -> dict[str, object]:
    """The whole answer as JSON; `session_id` is the name that the client gave its session."""
    outcome = turn.outcome
    if outcome is None:
        raise ValueError("the turn has not ended")
    return {
        "response": outcome.reply or "",
        "session_id": session_id,
        "turn_id": turn.turn_id,
        "finish_reason": outcome.finish_reason or FinishReason.STOP,
        "doc_count": len(outcome.sources),
        "timestamp": iso_millis(outcome.ended_at),
    }


TOKENS = Contract("tokens", encode, quiet_heartbeat)
