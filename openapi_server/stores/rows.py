"""Rows of the SQLite store, and the records that they stand for."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from openapi_server.records import Lease, Outcome, SessionRecord, TurnRecord
from openapi_server.turn import AgeGroup

OUTCOME = TypeAdapter(Outcome)

# A turn of a session that is not over, with both its messages in one row. `:now` is the time to judge by.
TURNS = """
    SELECT turns.*, asked.content AS message, told.content AS reply FROM turns
    JOIN sessions ON sessions.session_id = turns.session_id AND sessions.expires_at > :now
    JOIN messages AS asked ON asked.turn_id = turns.turn_id AND asked.role = 'visitor'
    LEFT JOIN messages AS told ON told.turn_id = turns.turn_id AND told.role = 'animal'
"""


def stamp(at: datetime) -> str:
    """UTC in a form of one length, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def session_row(session: SessionRecord) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "animal_id": session.animal_id,
        "owner": session.owner,
        "created_at": stamp(session.created_at),
        "last_message_at": stamp(session.last_message_at),
        "turn_count": session.turn_count,
        "ttl_s": session.ttl_s,
        "expires_at": stamp(session.expires_at),
    }


def session_record(row: sqlite3.Row) -> SessionRecord:
    return SessionRecord(
        session_id=row["session_id"],
        animal_id=row["animal_id"],
        owner=row["owner"],
        created_at=datetime.fromisoformat(row["created_at"]),
        last_message_at=datetime.fromisoformat(row["last_message_at"]),
        turn_count=row["turn_count"],
        ttl_s=row["ttl_s"],
    )


def turn_row(turn: TurnRecord, position: int) -> dict[str, object]:
    return {
        "turn_id": turn.turn_id,
        "session_id": turn.session_id,
        "position": position,
        "animal_id": turn.animal_id,
        "age_group": turn.age_group,
        "model": turn.model,
        "metadata": turn.metadata,
        "created_at": stamp(turn.created_at),
        "worker": turn.worker,
        "lease_until": stamp(turn.lease_until) if turn.lease_until else None,
    }


def turn_record(row: sqlite3.Row) -> TurnRecord:
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
        lease_until=datetime.fromisoformat(row["lease_until"]) if row["lease_until"] else None,
        outcome=replace(OUTCOME.validate_json(row["outcome"]), reply=row["reply"]) if row["outcome"] else None,
    )


def lease(row: sqlite3.Row) -> Lease:
    """A turn that an older version of the server began has no lease: it is over."""
    until = datetime.fromisoformat(row["lease_until"]) if row["lease_until"] else datetime.min.replace(tzinfo=UTC)
    return Lease(row["turn_id"], row["worker"], until)


def outcome_json(outcome: Outcome) -> str:
    """Everything but the reply, which has a row of its own among the messages."""
    return OUTCOME.dump_json(outcome, exclude={"reply"}).decode()
