"""A session's history: as JSON messages, or as a stream of `session`, `history` for each turn, `history_complete`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from openapi_server.models.page import Page
from openapi_server.models.session import SessionRecord
from openapi_server.models.summary import Summary
from openapi_server.models.turn import TurnRecord
from openapi_server.wire.sse import Frame
from openapi_server.wire.timestamps import format_timestamp


def encode_opening_frame(session: SessionRecord) -> Frame:
    """The session's initial message, which belongs to no turn."""
    body = {
        "index": 0,
        "turnId": None,
        "userMessage": session.opening,
        "assistantReply": None,
        "timestamp": format_timestamp(session.created_at),
    }
    return Frame(body, event="history")


def encode_session_frame(session: SessionRecord, message_count: int) -> Frame:
    return Frame({"sessionId": session.session_id, "messageCount": message_count}, event="session")


def encode_turn_frame(index: int, turn: TurnRecord) -> Frame:
    body = {
        "index": index,
        "turnId": turn.turn_id,
        "userMessage": turn.message,
        "assistantReply": turn.outcome.reply if turn.outcome else None,
        "timestamp": format_timestamp(turn.delivered_at),
    }
    return Frame(body, event="history")


def encode_complete_frame(message_count: int) -> Frame:
    return Frame({"totalMessages": message_count}, event="history_complete")


def encode_history(session: SessionRecord, page: Page[TurnRecord], *, is_first: bool = True) -> dict[str, object]:
    """A page of the session's messages, oldest first."""
    encoded: dict[str, object] = {
        "sessionId": session.session_id,
        "animalId": session.animal_id,
        "totalTurns": session.turn_count,
        "turns": encode_messages(session, page, is_first=is_first),
    }
    return encoded | ({"nextCursor": page.next_cursor} if page.next_cursor else {})


def encode_messages(session: SessionRecord, page: Page[TurnRecord], *, is_first: bool) -> list[dict[str, object]]:
    """The messages of a page of turns. The first page begins with the session's initial message."""
    opening = [_encode_opening(session)] if session.opening and is_first else []
    return opening + [message for turn in page.items for message in _encode_messages(turn)]


def _encode_opening(session: SessionRecord) -> dict[str, object]:
    at, metadata = format_timestamp(session.created_at), {"animalId": session.animal_id}
    return {"role": "user", "content": session.opening, "timestamp": at, "metadata": metadata}


def count_messages(turn: TurnRecord) -> int:
    """How many messages a turn has: two, or one when it has no reply."""
    return len(list(_encode_messages(turn)))


def _encode_messages(turn: TurnRecord) -> Iterator[dict[str, object]]:
    metadata: dict[str, object] = {"animalId": turn.animal_id, "status": turn.status}
    if turn.metadata:
        metadata["client"] = json.loads(turn.metadata)
    outcome = turn.outcome
    if outcome and outcome.finish_reason:
        metadata["finishReason"] = outcome.finish_reason
    shared = {"turnId": turn.turn_id, "metadata": metadata}
    yield {"role": "user", "content": turn.message, "timestamp": format_timestamp(turn.delivered_at), **shared}
    if outcome and outcome.reply is not None:
        yield {"role": "assistant", "content": outcome.reply, "timestamp": format_timestamp(outcome.ended_at), **shared}


def encode_session(session: SessionRecord, animal_name: str, summary: Summary, message_count: int) -> dict[str, object]:
    """A session in a list of sessions."""
    duration = session.last_message_at - session.created_at
    return {
        "sessionId": session.session_id,
        "animalId": session.animal_id,
        "animalName": animal_name,
        "startTime": format_timestamp(session.created_at),
        "lastMessageTime": format_timestamp(session.last_message_at),
        "messageCount": message_count,
        "durationSeconds": max(0, round(duration.total_seconds())),
        "summary": summary.text,
    }
