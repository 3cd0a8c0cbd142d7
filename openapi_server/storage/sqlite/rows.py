"""Rows of the SQLite tables, and the values that they hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

from pydantic import TypeAdapter

from openapi_server.models.session import DeviceUser, SessionRecord
from openapi_server.models.turn import AgeGroup, Lease, Outcome, TurnRecord
from openapi_server.storage.retention_window import decode_time, encode_time

Row = dict[str, object]
OUTCOME = TypeAdapter(Outcome)

# The visible turns (`RetentionWindow.parameters`) of visible sessions, each with both its messages in one row.
SELECT_TURNS = """
    SELECT turns.*, asked.body AS message, asked.media_url, told.body AS reply, sessions.owner FROM turns
    JOIN sessions ON sessions.session_id = turns.session_id
        AND sessions.expires_at > :now AND turns.created_at > :since
    JOIN messages AS asked ON asked.turn_id = turns.turn_id AND asked.direction = 'incoming'
    LEFT JOIN messages AS told ON told.turn_id = turns.turn_id AND told.direction = 'outgoing'
"""


def insert_row(db: sqlite3.Connection, table: str, row: Mapping[str, object], *, or_ignore: str | None = None) -> bool:
    """Insert the row. Table and column names are constants of this package; only values come from outside.

    False when there is a row with the same value in the column `or_ignore`.
    """
    return db.execute(_make_insert(table, tuple(row), or_ignore), tuple(row.values())).rowcount == 1


@cache
def _make_insert(table: str, columns: tuple[str, ...], or_ignore: str | None) -> str:
    names, places = ", ".join(columns), ", ".join("?" for _ in columns)
    conflict = f" ON CONFLICT ({or_ignore}) DO NOTHING" if or_ignore else ""
    return f"INSERT INTO {table} ({names}) VALUES ({places}){conflict}"  # noqa: S608


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
        "name_key": session.name_key,
        "name": session.name,
        "is_claimed": int(session.is_claimed),
        "is_charged": int(session.is_charged),
    }


def decode_session(row: sqlite3.Row, since: str = "") -> SessionRecord:
    """The session. Its title and opening are left out when it was created at `since` or earlier: they are too old."""
    has_texts = row["created_at"] > since
    return SessionRecord(
        session_id=row["session_id"],
        animal_id=row["animal_id"],
        owner=row["owner"],
        created_at=datetime.fromisoformat(row["created_at"]),
        last_message_at=datetime.fromisoformat(row["last_message_at"]),
        turn_count=row["turn_count"],
        ttl_s=row["ttl_s"],
        title=row["title"] if has_texts else None,
        opening=row["opening"] if has_texts else None,
        handle=row["handle"],
        locked_at=decode_time(row["locked_at"]),
        name_key=row["name_key"],
        name=row["name"],
        is_claimed=bool(row["is_claimed"]),
        is_charged=bool(row["is_charged"]),
    )


def encode_turn(turn: TurnRecord, position: int) -> Row:
    return {
        "turn_id": turn.turn_id,
        "session_id": turn.session_id,
        "position": position,
        "animal_id": turn.animal_id,
        "age_group": turn.age_group.value,
        "model": turn.model,
        "metadata": turn.metadata,
        "created_at": encode_time(turn.created_at),
        "worker": turn.worker,
        "lease_until": encode_time(turn.lease_until) if turn.lease_until else None,
        "is_bound": int(turn.is_bound),
        "is_queued": int(turn.is_queued),
        "started_at": encode_time(turn.started_at) if turn.started_at else None,
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
        is_bound=bool(row["is_bound"]),
        is_queued=bool(row["is_queued"]),
        started_at=decode_time(row["started_at"]),
        outcome=replace(OUTCOME.validate_json(row["outcome"]), reply=row["reply"]) if row["outcome"] else None,
    )


def encode_message(turn_id: str, direction: str, body: str, at: datetime, media_urls: Sequence[str] = ()) -> Row:
    """One of the two messages of a turn. `direction`: incoming or outgoing. The URLs share a column, one a line."""
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
    """A turn that was started before there were leases has none: it counts as expired."""
    until = decode_time(row["lease_until"]) or datetime.min.replace(tzinfo=UTC)
    return Lease(row["turn_id"], row["worker"], until)


def encode_outcome(outcome: Outcome) -> str:
    """The outcome as JSON, without the reply, which is a row of the table `messages`."""
    return OUTCOME.dump_json(outcome, exclude={"reply"}).decode()
