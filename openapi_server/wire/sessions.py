"""The chat sessions contract: `chunk` for each piece, then `done` with the whole reply and its tokens, or `error`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from openapi_server.models.errors import Problem
from openapi_server.models.page import Page
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import TurnRecord, Usage
from openapi_server.models.turn_events import Chunk, Completed, Entry, Failed
from openapi_server.protocols import Model
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, encode_comment_heartbeat
from openapi_server.wire.timestamps import format_timestamp


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case Chunk(text=text):
            yield Frame({"text": text}, event="chunk", id=entry.id)
        case Completed() as completed:
            yield Frame(_encode_completed(completed), event="done", id=entry.id)
        case Failed(problem=problem):
            yield Frame(encode_error(problem), event="error", id=entry.id)


def _encode_completed(completed: Completed) -> dict[str, object]:
    return {
        "message": completed.reply,
        "tokensUsed": completed.usage.total,
        "streamingSessionId": completed.turn_id,
    }


def encode_error(problem: Problem) -> dict[str, object]:
    """`error` is the problem's code for programs, `message` a sentence for people."""
    return {"error": problem.code, "message": problem.detail, "problem": encode_problem(problem)}


def encode_model(model: Model, credits_per_token: int, *, is_available: bool) -> dict[str, object]:
    return {
        "id": model.model_id,
        "name": model.name,
        "description": model.description,
        "capabilities": list(model.capabilities),
        "creditCost": credits_per_token,
        "maxTokens": model.max_tokens,
        "available": is_available,
    }


def encode_created_session(session: SessionRecord) -> dict[str, object]:
    return {
        "sessionId": session.session_id,
        "title": _get_title(session),
        "createdAt": format_timestamp(session.created_at),
    }


def encode_session(session: SessionRecord) -> dict[str, object]:
    """A session in the list of the caller's sessions."""
    return encode_created_session(session) | {
        "updatedAt": format_timestamp(session.last_message_at),
        "animalId": session.animal_id,
        "messageCount": session.turn_count + (1 if session.opening else 0),
    }


def encode_session_details(session: SessionRecord, page: Page[TurnRecord], *, is_first: bool) -> dict[str, object]:
    """A session with a page of its messages. The first page begins with the session's initial message."""
    opening = [_encode_message("user", session.opening, session.created_at)] if session.opening and is_first else []
    messages = opening + [message for turn in page.items for message in _encode_messages(turn)]
    return encode_session(session) | {"messages": messages, "nextCursor": page.next_cursor}


def encode_confirmation(turn: TurnRecord) -> dict[str, object]:
    usage = turn.outcome.usage if turn.outcome else Usage()
    return {"message": "The stream was confirmed.", "sessionId": turn.session_id, "tokensUsed": usage.total}


def _encode_messages(turn: TurnRecord) -> Iterator[dict[str, object]]:
    stream = {"streamingSessionId": turn.turn_id}
    yield _encode_message("user", turn.message, turn.told_at) | stream
    if turn.outcome and turn.outcome.reply is not None:
        yield _encode_message("assistant", turn.outcome.reply, turn.outcome.ended_at) | stream


def _encode_message(role: str, content: str, at: datetime) -> dict[str, object]:
    return {"role": role, "content": content, "timestamp": format_timestamp(at)}


def _get_title(session: SessionRecord) -> str:
    """The session's title. Sessions of other contracts have none of their own."""
    return session.title or f"Talk with {session.animal_id}"


SESSIONS = Contract("sessions", encode, encode_comment_heartbeat)
