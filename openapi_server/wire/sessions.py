"""The chat sessions contract: `chunk` for each piece, then `done` with the whole reply and its tokens, or `error`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from openapi_server.models.credits import DailyUsage, TokenPrice
from openapi_server.models.errors import Problem
from openapi_server.models.page import Page
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import Outcome, TurnRecord
from openapi_server.models.turn_events import Chunk, Completed, Entry, Failed
from openapi_server.protocols import Model
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, encode_comment_heartbeat, encode_id_field, encode_text
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


def encode_chunk(entry: Entry, chunk: Chunk) -> str:
    """The text of the frame that `encode` yields."""
    return f'{encode_id_field(entry)}event: chunk\ndata: {{"text":{encode_text(chunk.text)}}}\n\n'


def _encode_completed(completed: Completed) -> dict[str, object]:
    return {
        "message": completed.reply,
        "tokensUsed": _count_tokens(completed),
        "streamingSessionId": completed.turn_id,
    }


def encode_error(problem: Problem) -> dict[str, object]:
    """`error` is the problem's code for programs, `message` a sentence for people."""
    return {"error": problem.code, "message": problem.detail, "problem": encode_problem(problem)}


def _count_tokens(ended: Completed | Outcome) -> int:
    """The tokens that were charged; of a turn for which nobody paid, those of its reply."""
    return ended.usage.completion_tokens if ended.tokens_charged is None else ended.tokens_charged


def encode_model(model: Model, price: TokenPrice, *, is_available: bool) -> dict[str, object]:
    return {
        "id": model.model_id,
        "name": model.name,
        "description": model.description,
        "capabilities": list(model.capabilities),
        "creditCost": price.credits_per_token,
        "promptCreditCost": price.credits_per_prompt_token,
        "maxTokens": model.max_tokens,
        "available": is_available,
    }


def encode_usage(days: Sequence[DailyUsage]) -> dict[str, object]:
    """The usage of each day, and of all of them."""
    total = {
        "turns": sum(day.turns for day in days),
        "tokens": sum(day.tokens for day in days),
        "credits": sum(day.credits for day in days),
    }
    encoded = [
        {"date": day.day.isoformat(), "turns": day.turns, "tokens": day.tokens, "credits": day.credits} for day in days
    ]
    return {"days": encoded, "total": total}


def encode_created_session(session: SessionRecord) -> dict[str, object]:
    return {
        "sessionId": session.session_id,
        "title": _get_title(session),
        "createdAt": format_timestamp(session.created_at),
    }


def encode_session(session: SessionRecord, message_count: int) -> dict[str, object]:
    """A session in the list of the caller's sessions."""
    return encode_created_session(session) | {
        "updatedAt": format_timestamp(session.last_message_at),
        "animalId": session.animal_id,
        "messageCount": message_count,
    }


def encode_session_details(
    session: SessionRecord, page: Page[TurnRecord], message_count: int, *, is_first: bool
) -> dict[str, object]:
    """A session with a page of its messages. The first page begins with the session's initial message."""
    listed = encode_messages(session, page, is_first=is_first)
    return encode_session(session, message_count) | {"messages": listed["messages"], "nextCursor": page.next_cursor}


def encode_messages(session: SessionRecord, page: Page[TurnRecord], *, is_first: bool) -> dict[str, object]:
    """A page of a session's messages. The first page begins with the session's initial message."""
    opening = [_encode_message("user", session.opening, session.created_at)] if session.opening and is_first else []
    messages = opening + [message for turn in page.items for message in _encode_messages(turn)]
    return {"sessionId": session.session_id, "messages": messages, "nextCursor": page.next_cursor}


def encode_answer(turn: TurnRecord) -> dict[str, object]:
    """A turn that has ended with a reply: what `done` says of it."""
    outcome = turn.outcome
    return {
        "message": (outcome.reply if outcome else None) or "",
        "tokensUsed": _count_tokens(outcome) if outcome else 0,
        "streamingSessionId": turn.turn_id,
        "sessionId": turn.session_id,
        "modelId": (outcome.model if outcome else None) or turn.model,
    }


def encode_confirmation(turn: TurnRecord) -> dict[str, object]:
    tokens = _count_tokens(turn.outcome) if turn.outcome else 0
    return {"message": "The stream was confirmed.", "sessionId": turn.session_id, "tokensUsed": tokens}


def _encode_messages(turn: TurnRecord) -> Iterator[dict[str, object]]:
    stream = {"streamingSessionId": turn.turn_id}
    yield _encode_message("user", turn.message, turn.delivered_at) | stream
    if turn.outcome and turn.outcome.reply is not None:
        yield _encode_message("assistant", turn.outcome.reply, turn.outcome.ended_at) | stream


def _encode_message(role: str, content: str, at: datetime) -> dict[str, object]:
    return {"role": role, "content": content, "timestamp": format_timestamp(at)}


def _get_title(session: SessionRecord) -> str:
    """The session's title. Sessions of other contracts have none of their own."""
    return session.title or f"Talk with {session.animal_id}"


SESSIONS = Contract("sessions", encode, encode_comment_heartbeat, encode_chunk)
