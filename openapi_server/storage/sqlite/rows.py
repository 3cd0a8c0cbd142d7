"""Rows of the SQLite store, and the records that they stand for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from openapi_server.models.session import DeviceUser, SessionRecord
from openapi_server.models.turn import AgeGroup, Lease, Outcome, TurnRecord

Row = dict[str, object]
OUTCOME = TypeAdapter(Outcome)

# A turn that is within the horizon (`:now`, `:since`), as its session is, with both its messages in one row.
SELECT_TURNS = """
    SELECT turns.*, asked.body AS message, asked.media_url, told.body AS reply, sessions.owner FROM turns
    JOIN sessions ON sessions.session_id = turns.session_id
        AND sessions.expires_at > :now AND turns.created_at > :since
    JOIN messages AS asked ON asked.turn_id = turns.turn_id AND asked.direction = 'incoming'
    LEFT JOIN messages AS told ON told.turn_id = turns.turn_id AND told.direction = 'outgoing'
"""


def encode_time(at: datetime) -> str:
    """UTC in a form of one length, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def encode_session(session: SessionRecord) -> Row:
    return {
        "session_id": session.session_id,
        "animal_id": session.animal_id,
        "owner": session.owner,
        "created_at": encode_time(session.created_at),
        "last_message_at": encode_time(session.last_message_at),
        "turn_count": session.turn_count,
        "ttl_s": session.ttl_s,
        "expires_at": encode_time(session.expires_at),
        "title": session.title,
        "opening": session.opening,
        "handle": session.handle,
        "locked_at": encode_time(session.locked_at) if session.locked_at else None,
    }


def decode_session(row: sqlite3.Row, since: str = "") -> SessionRecord:
    """The record; without the words that the session was begun with when that was at `since` or before."""
    has_words = row["created_at"] > since
    return SessionRecord(
        session_id=row["session_id"],
        animal_id=row["animal_id"],
        owner=row["owner"],
        created_at=datetime.fromisoformat(row["created_at"]),
        last_message_at=datetime.fromisoformat(row["last_message_at"]),
        turn_count=row["turn_count"],
        ttl_s=row["ttl_s"],
        title=row["title"] if has_words else None,
        opening=row["opening"] if has_words else None,
        handle=row["handle"],
        locked_at=decode_time(row["locked_at"]),
    )


def encode_turn(turn: TurnRecord, position: int) -> Row:
    return {
        "turn_id": turn.turn_id,
        "session_id": turn.session_id,
        "position": position,
        "animal_id": turn.animal_id,
        "age_group": turn.age_group,
        "model": turn.model,
        "metadata": turn.metadata,
        "created_at": encode_time(turn.created_at),
        "worker": turn.worker,
        "lease_until": encode_time(turn.lease_until) if turn.lease_until else None,
    }


def decode_turn(row: sqlite3.Row) -> TurnRecord:
    return TurnRecord(
        turn_id=row["turn_id"],
        session_id=row["session_id"],
        animal_id=row["animal_id"],
        age_group=AgeGroup(row["age_group"]),
        message=row["message"],
        model=row["model"],
        created_at=datetime.fromisoformat(row["created_at"]),
        metadata=row["metadata"],
        worker=row["worker"],
        lease_until=decode_time(row["lease_until"]),
        owner=row["owner"],
        media_urls=tuple(row["media_url"].split("\n")) if row["media_url"] else (),
        outcome=replace(OUTCOME.validate_json(row["outcome"]), reply=row["reply"]) if row["outcome"] else None,
    )


def encode_message(turn_id: str, direction: str, body: str, at: datetime, media_urls: Sequence[str] = ()) -> Row:
    """One of a turn's two messages. Its addresses, which hold no line feed, are one column."""
    return {
        "turn_id": turn_id,
        "direction": direction,
        "body": body,
        "media_url": "\n".join(media_urls) or None,
        "created_at": encode_time(at),
    }


def decode_device_user(row: sqlite3.Row) -> DeviceUser:
    return DeviceUser(row["user_id"], row["handle"], datetime.fromisoformat(row["created_at"]))


def decode_lease(row: sqlite3.Row) -> Lease:
    """A turn that an older version of the server began has no lease: it is over."""
    until = decode_time(row["lease_until"]) or datetime.min.replace(tzinfo=UTC)
    return Lease(row["turn_id"], row["worker"], until)


def decode_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def encode_outcome(outcome: Outcome) -> str:
    """Everything but the reply, which has a row of its own among the messages."""
    return OUTCOME.dump_json(outcome, exclude={"reply"}).decode()
