"""The embedded store: one SQLite file, nothing to set up.

Every method is one short use of one connection; every write is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import TypeAdapter

from openapi_server.errors import SessionNotFound, StoreUnavailable, TurnRunning
from openapi_server.records import Outcome, Page, SessionRecord, TurnRecord
from openapi_server.stores.connections import Connections
from openapi_server.stores.cursors import decode_cursor, encode_cursor
from openapi_server.stores.migrations import migrate
from openapi_server.turn import AgeGroup

OUTCOME = TypeAdapter(Outcome)

log = structlog.get_logger(__name__)

# A turn with both its messages in one row.
TURNS = """
    SELECT turns.*, asked.content AS message, told.content AS reply FROM turns
    JOIN messages AS asked ON asked.turn_id = turns.turn_id AND asked.role = 'visitor'
    LEFT JOIN messages AS told ON told.turn_id = turns.turn_id AND told.role = 'animal'
"""


class SqliteStore:
    """`Store` over one SQLite file; `open` makes the folder and brings the schema up to date."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.error("store_failed", error=type(error).__name__, reason=str(error))
            raise StoreUnavailable(retry_after_s=2) from error
        connections = Connections(path)
        try:
            await connections.read(migrate)
        except BaseException:
            await connections.close()
            raise
        return cls(connections)

    async def create_session(self, session: SessionRecord) -> None:
        await self._connections.write(lambda db: _insert_session(db, session))

    async def session(self, session_id: str) -> SessionRecord | None:
        def select(db: sqlite3.Connection) -> SessionRecord | None:
            row = db.execute("SELECT * FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
            return _session(row) if row else None

        return await self._connections.read(select)

    async def sessions_of(self, owner: str, limit: int, cursor: str | None = None) -> Page[SessionRecord]:
        before = decode_cursor(cursor, str, str) if cursor else ["~", ""]

        def select(db: sqlite3.Connection) -> list[SessionRecord]:
            rows = db.execute(
                """
                SELECT * FROM sessions WHERE owner = ? AND (last_message_at, session_id) < (?, ?)
                ORDER BY last_message_at DESC, session_id DESC LIMIT ?
                """,
                (owner, *before, limit + 1),
            )
            return [_session(row) for row in rows]

        found = await self._connections.read(select)
        last = found[:limit][-1:]
        mark = [encode_cursor(_stamp(session.last_message_at), session.session_id) for session in last]
        return Page(tuple(found[:limit]), mark[0] if len(found) > limit else None)

    async def begin_turn(self, turn: TurnRecord, new_session: SessionRecord | None = None) -> None:
        def insert(db: sqlite3.Connection) -> None:
            if new_session is not None:
                _insert_session(db, new_session)
            _refuse_unless_free(db, turn.session_id)
            created_at = _stamp(turn.created_at)
            (position,) = db.execute(
                """
                UPDATE sessions SET turn_count = turn_count + 1, last_message_at = ? WHERE session_id = ?
                RETURNING turn_count
                """,
                (created_at, turn.session_id),
            ).fetchone()
            db.execute(
                """
                INSERT INTO turns (turn_id, session_id, position, animal_id, age_group, model, metadata, created_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (
                    turn.turn_id,
                    turn.session_id,
                    position,
                    turn.animal_id,
                    turn.age_group,
                    turn.model,
                    turn.metadata,
                    created_at,
                ),
            )
            db.execute("INSERT INTO messages VALUES (?, 'visitor', ?, ?)", (turn.turn_id, turn.message, created_at))

        await self._connections.write(insert)

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> bool:
        def update(db: sqlite3.Connection) -> bool:
            ended_at = _stamp(outcome.ended_at)
            changed = db.execute(
                "UPDATE turns SET ended_at = ?, outcome = ? WHERE turn_id = ? AND ended_at IS NULL",
                (ended_at, OUTCOME.dump_json(outcome, exclude={"reply"}).decode(), turn_id),
            ).rowcount
            if changed and outcome.reply is not None:
                db.execute("INSERT INTO messages VALUES (?, 'animal', ?, ?)", (turn_id, outcome.reply, ended_at))
            return bool(changed)

        return await self._connections.write(update)

    async def turn(self, turn_id: str) -> TurnRecord | None:
        def select(db: sqlite3.Connection) -> TurnRecord | None:
            row = db.execute(f"{TURNS} WHERE turns.turn_id = ?", (turn_id,)).fetchone()
            return _turn(row) if row else None

        return await self._connections.read(select)

    async def turns_of(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        (after,) = decode_cursor(cursor, int) if cursor else (0,)

        def select(db: sqlite3.Connection) -> list[sqlite3.Row]:
            return db.execute(
                f"{TURNS} WHERE session_id = ? AND position > ? ORDER BY position LIMIT ?",
                (session_id, after, limit + 1),
            ).fetchall()

        rows = await self._connections.read(select)
        shown = rows[:limit]
        mark = encode_cursor(shown[-1]["position"]) if len(rows) > limit else None
        return Page(tuple(_turn(row) for row in shown), mark)

    async def latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        def select(db: sqlite3.Connection) -> list[TurnRecord]:
            rows = db.execute(f"{TURNS} WHERE session_id = ? ORDER BY position DESC LIMIT ?", (session_id, limit))
            return [_turn(row) for row in rows][::-1]

        return await self._connections.read(select)

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        def delete(db: sqlite3.Connection) -> list[str] | None:
            turn_ids = [row[0] for row in db.execute("SELECT turn_id FROM turns WHERE session_id = ?", (session_id,))]
            deleted = db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,)).rowcount
            return turn_ids if deleted else None

        return await self._connections.write(delete)

    async def running_turns(self) -> Sequence[str]:
        def select(db: sqlite3.Connection) -> list[str]:
            return [row[0] for row in db.execute("SELECT turn_id FROM turns WHERE ended_at IS NULL")]

        return await self._connections.read(select)

    async def ping(self) -> None:
        # A locked database answers to BEGIN IMMEDIATE; a read-only one only to a statement that could write.
        await self._connections.write(lambda db: db.execute("DELETE FROM sessions WHERE 0"))

    async def close(self) -> None:
        await self._connections.close()


def _insert_session(db: sqlite3.Connection, session: SessionRecord) -> None:
    db.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
        (
            session.session_id,
            session.animal_id,
            session.owner,
            _stamp(session.created_at),
            _stamp(session.last_message_at),
            session.turn_count,
        ),
    )


def _refuse_unless_free(db: sqlite3.Connection, session_id: str) -> None:
    if db.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone() is None:
        raise SessionNotFound
    running = db.execute(
        "SELECT turn_id FROM turns WHERE session_id = ? AND ended_at IS NULL", (session_id,)
    ).fetchone()
    if running is not None:
        raise TurnRunning("Wait for the running turn to end, or read along with it.", turn_id=running["turn_id"])


def _stamp(at: datetime) -> str:
    """UTC in a form of one length, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _session(row: sqlite3.Row) -> SessionRecord:
    return SessionRecord(
        session_id=row["session_id"],
        animal_id=row["animal_id"],
        owner=row["owner"],
        created_at=datetime.fromisoformat(row["created_at"]),
        last_message_at=datetime.fromisoformat(row["last_message_at"]),
        turn_count=row["turn_count"],
    )


def _turn(row: sqlite3.Row) -> TurnRecord:
    return TurnRecord(
        turn_id=row["turn_id"],
        session_id=row["session_id"],
        animal_id=row["animal_id"],
        age_group=AgeGroup(row["age_group"]),
        message=row["message"],
        model=row["model"],
        created_at=datetime.fromisoformat(row["created_at"]),
        metadata=row["metadata"],
        outcome=replace(OUTCOME.validate_json(row["outcome"]), reply=row["reply"]) if row["outcome"] else None,
    )
