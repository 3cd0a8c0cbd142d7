"""The embedded store: one SQLite file, nothing to set up.

Every method is one short use of one connection; every write is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from openapi_server.errors import KeyReused, SessionNotFound, StoreUnavailable, TurnRunning
from openapi_server.interfaces import Clock
from openapi_server.records import IdempotencyKey, Lease, Outcome, Page, SessionRecord, TurnRecord
from openapi_server.stores.connections import Connections
from openapi_server.stores.cursors import decode_cursor, encode_cursor
from openapi_server.stores.migrations import migrate
from openapi_server.stores.rows import (
    TURNS,
    lease,
    outcome_json,
    session_record,
    session_row,
    stamp,
    turn_record,
    turn_row,
)

log = structlog.get_logger(__name__)


# A key is as good as the session of the turn that it stands for.
KEYS = """
    SELECT body_hash, idempotency_keys.turn_id FROM idempotency_keys
    JOIN turns ON turns.turn_id = idempotency_keys.turn_id
    JOIN sessions ON sessions.session_id = turns.session_id
"""


class SqliteStore:
    """`Store` over one SQLite file; `open` makes the folder and brings the schema up to date."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> SqliteStore:
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
        return cls(connections, clock)

    @property
    def _now(self) -> str:
        return stamp(self._clock.now())

    async def create_session(self, session: SessionRecord) -> None:
        await self._connections.write(lambda db: _insert(db, "sessions", session_row(session)))

    async def session(self, session_id: str) -> SessionRecord | None:
        now = self._now

        def select(db: sqlite3.Connection) -> SessionRecord | None:
            row = _session(db, session_id, now)
            return session_record(row) if row else None

        return await self._connections.read(select)

    async def sessions_of(self, owner: str, limit: int, cursor: str | None = None) -> Page[SessionRecord]:
        before = decode_cursor(cursor, str, str) if cursor else ["~", ""]
        now = self._now

        def select(db: sqlite3.Connection) -> list[SessionRecord]:
            rows = db.execute(
                """
                SELECT * FROM sessions
                WHERE owner = ? AND expires_at > ? AND (last_message_at, session_id) < (?, ?)
                ORDER BY last_message_at DESC, session_id DESC LIMIT ?
                """,
                (owner, now, *before, limit + 1),
            )
            return [session_record(row) for row in rows]

        found = await self._connections.read(select)
        last = found[:limit][-1:]
        mark = [encode_cursor(stamp(session.last_message_at), session.session_id) for session in last]
        return Page(tuple(found[:limit]), mark[0] if len(found) > limit else None)

    async def begin_turn(
        self, turn: TurnRecord, new_session: SessionRecord | None = None, keys: Sequence[IdempotencyKey] = ()
    ) -> str:
        def insert(db: sqlite3.Connection) -> str:
            seen = _seen_before(db, keys, stamp(turn.created_at))
            if seen is not None:
                _remember(db, keys, seen)
                return seen
            if new_session is not None:
                _insert(db, "sessions", session_row(new_session))
            position = _take_position(db, turn)
            _insert(db, "turns", turn_row(turn, position))
            _insert_message(db, turn.turn_id, "visitor", turn.message, turn.created_at)
            _remember(db, keys, turn.turn_id)
            return turn.turn_id

        return await self._connections.write(insert)

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> bool:
        def update(db: sqlite3.Connection) -> bool:
            changed = db.execute(
                "UPDATE turns SET ended_at = ?, outcome = ? WHERE turn_id = ? AND ended_at IS NULL",
                (stamp(outcome.ended_at), outcome_json(outcome), turn_id),
            ).rowcount
            if changed and outcome.reply is not None:
                _insert_message(db, turn_id, "animal", outcome.reply, outcome.ended_at)
            return bool(changed)

        return await self._connections.write(update)

    async def turn(self, turn_id: str) -> TurnRecord | None:
        named = {"now": self._now, "turn_id": turn_id}

        def select(db: sqlite3.Connection) -> TurnRecord | None:
            row = db.execute(f"{TURNS} WHERE turns.turn_id = :turn_id", named).fetchone()
            return turn_record(row) if row else None

        return await self._connections.read(select)

    async def turns_of(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        (after,) = decode_cursor(cursor, int) if cursor else (0,)
        named = {"now": self._now, "session_id": session_id, "after": after, "limit": limit + 1}
        where = "WHERE turns.session_id = :session_id AND position > :after ORDER BY position LIMIT :limit"
        rows = await self._connections.read(lambda db: db.execute(f"{TURNS} {where}", named).fetchall())
        shown = rows[:limit]
        mark = encode_cursor(shown[-1]["position"]) if len(rows) > limit else None
        return Page(tuple(turn_record(row) for row in shown), mark)

    async def latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        named = {"now": self._now, "session_id": session_id, "limit": limit}
        where = "WHERE turns.session_id = :session_id ORDER BY position DESC LIMIT :limit"
        rows = await self._connections.read(lambda db: db.execute(f"{TURNS} {where}", named).fetchall())
        return [turn_record(row) for row in reversed(rows)]

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        now = self._now

        def delete(db: sqlite3.Connection) -> list[str] | None:
            if _session(db, session_id, now) is None:
                return None
            turn_ids = [row[0] for row in db.execute("SELECT turn_id FROM turns WHERE session_id = ?", (session_id,))]
            db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
            return turn_ids

        return await self._connections.write(delete)

    async def running_turns(self) -> Sequence[Lease]:
        query = "SELECT turn_id, worker, lease_until FROM turns WHERE ended_at IS NULL"
        return await self._connections.read(lambda db: [lease(row) for row in db.execute(query)])

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> Sequence[str]:
        def update(db: sqlite3.Connection) -> list[str]:
            query = "UPDATE turns SET lease_until = ? WHERE turn_id = ? AND ended_at IS NULL"
            return [turn_id for turn_id in turn_ids if db.execute(query, (stamp(until), turn_id)).rowcount]

        return await self._connections.write(update)

    async def count_expired_sessions(self) -> int:
        query, now = "SELECT count(*) FROM sessions WHERE expires_at <= ?", self._now
        return int(await self._connections.read(lambda db: db.execute(query, (now,)).fetchone()[0]))

    async def purge_expired_sessions(self, limit: int) -> int:
        query = """
            DELETE FROM sessions WHERE session_id IN
            (SELECT session_id FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
        """
        now = self._now
        return await self._connections.write(lambda db: db.execute(query, (now, limit)).rowcount)

    async def ping(self) -> None:
        # A locked database answers to BEGIN IMMEDIATE; a read-only one only to a statement that could write.
        await self._connections.write(lambda db: db.execute("DELETE FROM sessions WHERE 0"))

    async def close(self) -> None:
        await self._connections.close()


def _insert(db: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """Table and column names are ours; only values come from outside."""
    columns, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", row)  # noqa: S608


def _insert_message(db: sqlite3.Connection, turn_id: str, role: str, content: str, at: datetime) -> None:
    _insert(db, "messages", {"turn_id": turn_id, "role": role, "content": content, "created_at": stamp(at)})


def _session(db: sqlite3.Connection, session_id: str, now: str) -> sqlite3.Row | None:
    query = "SELECT * FROM sessions WHERE session_id = ? AND expires_at > ?"
    row: sqlite3.Row | None = db.execute(query, (session_id, now)).fetchone()
    return row


def _seen_before(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], now: str) -> str | None:
    """The turn that one of the keys stands for already. A key whose time is over makes room for its next use."""
    for key in keys:
        db.execute("DELETE FROM idempotency_keys WHERE key = ? AND expires_at <= ?", (key.key, now))
        row = db.execute(f"{KEYS} WHERE key = ? AND sessions.expires_at > ?", (key.key, now)).fetchone()
        if row is not None and row["body_hash"] != key.body_hash:
            raise KeyReused("Use a new Idempotency-Key for every new request.")
        if row is not None:
            return str(row["turn_id"])
    return None


def _remember(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], turn_id: str) -> None:
    """From now on every one of the keys stands for the turn, whichever of them it was found by."""
    for key in keys:
        db.execute("DELETE FROM idempotency_keys WHERE key = ?", (key.key,))
        row = {"key": key.key, "body_hash": key.body_hash, "turn_id": turn_id, "expires_at": stamp(key.expires_at)}
        _insert(db, "idempotency_keys", row)


def _take_position(db: sqlite3.Connection, turn: TurnRecord) -> int:
    """The turn's place in its session, which lives on from now; refused when it is not there or busy."""
    session = _session(db, turn.session_id, stamp(turn.created_at))
    if session is None:
        raise SessionNotFound
    query = "SELECT turn_id FROM turns WHERE session_id = ? AND ended_at IS NULL"
    running = db.execute(query, (turn.session_id,)).fetchone()
    if running is not None:
        raise TurnRunning("Wait for the running turn to end, or read along with it.", turn_id=running["turn_id"])
    spoken_to = session_record(session)
    row = session_row(replace(spoken_to, last_message_at=turn.created_at, turn_count=spoken_to.turn_count + 1))
    db.execute(
        """
        UPDATE sessions SET last_message_at = :last_message_at, expires_at = :expires_at, turn_count = :turn_count
        WHERE session_id = :session_id
        """,
        row,
    )
    return spoken_to.turn_count + 1
