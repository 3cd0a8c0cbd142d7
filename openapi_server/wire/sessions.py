"""The chat sessions' contract: `chunk`, then `done` with the whole message and what it cost, or `error`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from openapi_server.models.errors import Problem
from openapi_server.models.session import Page, SessionRecord, TurnRecord
from openapi_server.models.turn import Chunk, Completed, Entry, Failed, Usage
from openapi_server.protocols import Model
from openapi_server.wire.problem import problem_object
from openapi_server.wire.sse import Contract, Frame, quiet_heartbeat
from openapi_server.wire.timestamps import iso_millis


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case Chunk(text=text):
            yield Frame({"text": text}, event="chunk", id=entry.id)
        case Completed() as completed:
            yield Frame(_done(completed), event="done", id=entry.id)
        case Failed(problem=problem):
            yield Frame(error_object(problem), event="error", id=entry.id)


def _done(completed: Completed) -> dict[str, object]:
    return {
        "message": completed.reply,
        "tokensUsed": completed.usage.total,
        "streamingSessionId": completed.turn_id,
    }


def error_object(problem: Problem) -> dict[str, object]:
    """`error` is the name of the problem's kind for programs, `message` a sentence for people."""
    return {"error": problem.code, "message": problem.detail, "problem": problem_object(problem)}


def model_object(model: Model, credits_per_token: int) -> dict[str, object]:
    return {
        "id": model.model_id,
        "name": model.name,
        "description": model.description,
        "capabilities": list(model.capabilities),
        "creditCost": credits_per_token,
        "maxTokens": model.max_tokens,
        "available": True,
    }


def created_object(session: SessionRecord) -> dict[str, object]:
    return {
        "sessionId": session.session_id,
        "title": _title(session),
        "createdAt": iso_millis(session.created_at),
    }


def session_object(session: SessionRecord) -> dict[str, object]:
    """A session in the caller's list."""
    return created_object(session) | {
        "updatedAt": iso_millis(session.last_message_at),
        "animalId": session.animal_id,
        "messageCount": session.turn_count + (1 if session.opening else 0),
    }


def details_object(session: SessionRecord, page: Page[TurnRecord], *, is_first: bool) -> dict[str, object]:
    """A session with a page of its messages; the first page begins with the words that the session was begun with."""
    opening = [_message("user", session.opening, session.created_at)] if session.opening and is_first else []
    messages = opening + [message for turn in page.items for message in _messages(turn)]
    return session_object(session) | {"messages": messages, "nextCursor": page.next_cursor}


def confirmed_object(turn: TurnRecord) -> dict[str, object]:
    usage = turn.outcome.usage if turn.outcome else Usage()
    return {"message": "The stream was confirmed.", "sessionId": turn.session_id, "tokensUsed": usage.total}


def _messages(turn: TurnRecord) -> Iterator[dict[str, object]]:
    stream = {"streamingSessionId": turn.turn_id}
    yield _message("user", turn.message, turn.created_at) | stream
    if turn.outcome and turn.outcome.reply is not None:
        yield _message("assistant", turn.outcome.reply, turn.outcome.ended_at) | stream


def _message(role: str, content: str, at: datetime) -> dict[str, object]:
    return {"role": role, "content": content, "timestamp": iso_millis(at)}


def _title(session: SessionRecord) -> str:
    """Sessions that were begun elsewhere have none of their own."""
    return session.title or f"Talk with {session.animal_id}"


SESSIONS = Contract("sessions", encode, quiet_heartbeat)
