"""The embedded store: sessions and turns in one SQLite file, with nothing to set up.

Every method uses one connection for a short time. Every write is one transaction, but turns that begin or end at the
same moment share one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from openapi_server.models.credits import Charge
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.page import Page, decode_cursor, make_page
from openapi_server.models.session import ALL_SESSIONS, SessionClaim, SessionFilter, SessionRecord
from openapi_server.models.turn import IdempotencyKey, Lease, Outcome, TurnOwnership, TurnRecord
from openapi_server.protocols import Clock
from openapi_server.storage.retention_window import RetentionWindow, encode_time
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.migrations import migrate
from openapi_server.storage.sqlite.retention import (
    count_expired_sessions,
    delete_expired_sessions,
    delete_old_turns,
    vacuum,
)
from openapi_server.storage.sqlite.rows import (
    SELECT_TURNS,
    decode_lease,
    decode_session,
    decode_turn,
    encode_session,
    insert_row,
)
from openapi_server.storage.sqlite.turns import (
    begin_turn,
    count_visible_messages,
    delete_session,
    has_turn,
    select_session,
    set_session_ttl,
    settle_turn,
    start_queued_turn,
)

# About what a turn writes.
PROBE_BYTES = 32_768

SELECT_OWN_SESSIONS = """
    SELECT * FROM sessions
    WHERE owner = :owner AND expires_at > :now AND last_message_at > :since
        AND (last_message_at, session_id) < (:before, :session_id)
        AND last_message_at >= :first AND last_message_at < :end AND animal_id = coalesce(:animal_id, animal_id)
    ORDER BY last_message_at DESC, session_id DESC LIMIT :limit
"""

log = structlog.get_logger(__name__)


class SqliteStore:
    """`Store` over one SQLite file; `open` creates the folder and migrates the schema.

    `retention`: how long turns are kept; None: as long as their session.
    """

    def __init__(self, connections: Connections, clock: Clock, retention: timedelta | None = None) -> None:
        self._connections = connections
        self._clock = clock
        self._retention = retention
        self._was_vacuumed = False

    @classmethod
    async def open(cls, path: Path, clock: Clock, retention: timedelta | None = None) -> SqliteStore:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.error("store_failed", error=type(error).__name__, reason=str(error))
            raise StoreUnavailable(retry_after_s=2) from error
        connections = Connections(path, migrate)
        try:
            await connections.open()
        except BaseException:
            await connections.close()
            raise
        return cls(connections, clock, retention)

    @property
    def connections(self) -> Connections:
        """For the other stores over the same file."""
        return self._connections

    @property
    def _window(self) -> RetentionWindow:
        return RetentionWindow.at(self._clock.now(), self._retention)

    async def create_session(self, session: SessionRecord) -> None:
        await self._connections.write(lambda db: insert_row(db, "sessions", encode_session(session)))

    async def get_session(self, session_id: str) -> SessionRecord | None:
        window = self._window

        def select(db: sqlite3.Connection) -> SessionRecord | None:
            return select_session(db, session_id, window)

        return await self._connections.read(select)

    async def find_named_sessions(
        self, session_ids: Sequence[str], owner: str | None, name_key: str
    ) -> Sequence[SessionRecord]:
        window = self._window
        places = ", ".join("?" for _ in session_ids) or "NULL"
        query = f"""
            SELECT * FROM sessions
            WHERE (session_id IN ({places}) OR (owner = ? AND name_key = ?)) AND expires_at > ? AND last_message_at > ?
            ORDER BY last_message_at DESC, session_id
        """  # noqa: S608  # placeholders only
        values = (*session_ids, owner, name_key, window.now, window.since)

        def select(db: sqlite3.Connection) -> list[SessionRecord]:
            return [decode_session(row, window.since) for row in db.execute(query, values)]

        return await self._connections.read(select)

    async def list_sessions(
        self, owner: str, limit: int, cursor: str | None = None, only: SessionFilter = ALL_SESSIONS
    ) -> Page[SessionRecord]:
        before = decode_cursor(cursor, str, str) if cursor else ["~", ""]
        window = self._window
        named = {
            **window.parameters,
            "owner": owner,
            "before": before[0],
            "session_id": before[1],
            "animal_id": only.animal_id,
            "first": encode_time(only.since) if only.since else "",
            "end": encode_time(only.until) if only.until else "~",
            "limit": limit + 1,
        }

        def select(db: sqlite3.Connection) -> Page[SessionRecord]:
            rows = db.execute(SELECT_OWN_SESSIONS, named).fetchall()
            return make_page(
                rows, limit, lambda row: decode_session(row, window.since), "last_message_at", "session_id"
            )

        return await self._connections.read(select)

    async def count_messages(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        window = self._window

        def count(db: sqlite3.Connection) -> dict[str, int]:
            return {session_id: count_visible_messages(db, session_id, window) for session_id in session_ids}

        return await self._connections.read(count)

    async def begin_turn(
        self,
        turn: TurnRecord,
        new_session: SessionRecord | None = None,
        keys: Sequence[IdempotencyKey] = (),
        charge: Charge | None = None,
        claim: SessionClaim | None = None,
        max_queued: int = 0,
    ) -> str:
        window = RetentionWindow.at(turn.created_at, self._retention)
        return await self._connections.write_together(
            lambda db: begin_turn(db, turn, new_session, keys, charge, claim, max_queued, window)
        )

    async def start_queued_turn(self, turn_id: str, at: datetime, charge: Charge | None = None) -> str | None:
        now = encode_time(at)
        return await self._connections.write(lambda db: start_queued_turn(db, turn_id, charge, now))

    async def has_turn(self, keys: Sequence[IdempotencyKey]) -> bool:
        window = self._window
        return await self._connections.read(lambda db: has_turn(db, keys, window))

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> Outcome | None:
        return await self._connections.write_together(lambda db: settle_turn(db, turn_id, outcome))

    async def get_turn(self, turn_id: str) -> TurnRecord | None:
        named = {**self._window.parameters, "turn_id": turn_id}

        def select(db: sqlite3.Connection) -> TurnRecord | None:
            row = db.execute(f"{SELECT_TURNS} WHERE turns.turn_id = :turn_id", named).fetchone()
            return decode_turn(row) if row else None

        return await self._connections.read(select)

    async def get_turn_ownership(self, turn_id: str) -> TurnOwnership | None:
        query = """
            SELECT turns.session_id, sessions.owner, turns.is_bound FROM turns
            JOIN sessions ON sessions.session_id = turns.session_id
                AND sessions.expires_at > :now AND turns.created_at > :since
            WHERE turns.turn_id = :turn_id
        """
        named = {**self._window.parameters, "turn_id": turn_id}

        def select(db: sqlite3.Connection) -> TurnOwnership | None:
            row = db.execute(query, named).fetchone()
            return TurnOwnership(row["session_id"], row["owner"], bool(row["is_bound"])) if row else None

        return await self._connections.read(select)

    async def list_turns(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        (after,) = decode_cursor(cursor, int) if cursor else (0,)
        named = {**self._window.parameters, "session_id": session_id, "after": after, "limit": limit + 1}
        where = "WHERE turns.session_id = :session_id AND position > :after ORDER BY position LIMIT :limit"
        rows = await self._connections.read(lambda db: db.execute(f"{SELECT_TURNS} {where}", named).fetchall())
        return make_page(rows, limit, decode_turn, "position")

    async def list_latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        named = {**self._window.parameters, "session_id": session_id, "limit": limit}
        where = "WHERE turns.session_id = :session_id ORDER BY position DESC LIMIT :limit"
        rows = await self._connections.read(lambda db: db.execute(f"{SELECT_TURNS} {where}", named).fetchall())
        return [decode_turn(row) for row in reversed(rows)]

    async def list_owner_turns(self, owner: str | None, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        before = decode_cursor(cursor, str, str) if cursor else ["~", ""]
        named = {**self._window.parameters, "owner": owner, "at": before[0], "turn_id": before[1], "limit": limit + 1}
        # Two queries, so that the few turns of one owner are found by the index of owners.
        whose = "" if owner is None else "sessions.owner = :owner AND"
        where = f"""
            WHERE {whose} (turns.created_at, turns.turn_id) < (:at, :turn_id)
            ORDER BY turns.created_at DESC, turns.turn_id DESC LIMIT :limit
        """
        rows = await self._connections.read(lambda db: db.execute(f"{SELECT_TURNS} {where}", named).fetchall())
        return make_page(rows, limit, decode_turn, "created_at", "turn_id")

    async def set_session_ttl(self, session_id: str, ttl_s: int) -> SessionRecord | None:
        window = self._window
        return await self._connections.write(lambda db: set_session_ttl(db, session_id, ttl_s, window))

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        window = self._window

        def delete(db: sqlite3.Connection) -> Sequence[str] | None:
            if select_session(db, session_id, window) is None:
                return None
            # The session's id is also the id of the device's user, which is deleted with it.
            db.execute("DELETE FROM device_users WHERE user_id = ?", (session_id,))
            return delete_session(db, session_id, window.now)

        return await self._connections.write(delete)

    async def list_running_turns(self) -> Sequence[Lease]:
        query = """
            SELECT turn_id, worker, lease_until FROM turns WHERE ended_at IS NULL
            UNION SELECT turn_id, worker, lease_until FROM credit_reservations WHERE lease_until IS NOT NULL
        """
        return await self._connections.read(lambda db: [decode_lease(row) for row in db.execute(query)])

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> Sequence[str]:
        def update(db: sqlite3.Connection) -> list[str]:
            query = "UPDATE turns SET lease_until = ? WHERE turn_id = ? AND ended_at IS NULL"
            return [turn_id for turn_id in turn_ids if db.execute(query, (encode_time(until), turn_id)).rowcount]

        return await self._connections.write(update)

    async def count_expired_sessions(self) -> int:
        window = self._window
        return await self._connections.read(lambda db: count_expired_sessions(db, window))

    async def delete_expired_sessions(self, limit: int) -> int:
        window = self._window
        return await self._connections.write(lambda db: delete_expired_sessions(db, window, limit))

    async def delete_old_turns(self, limit: int) -> int:
        window = self._window
        return await self._connections.write(lambda db: delete_old_turns(db, window, limit))

    async def vacuum(self, at_most_bytes: int | None = None) -> bool:
        is_vacuumed = await self._connections.run_exclusive(
            partial(vacuum, at_most_bytes=at_most_bytes, is_forced=not self._was_vacuumed)
        )
        self._was_vacuumed = self._was_vacuumed or is_vacuumed
        return is_vacuumed

    async def ping(self) -> None:
        await self._connections.write(write_probe)

    async def close(self) -> None:
        await self._connections.close()


def write_probe(db: sqlite3.Connection) -> None:
    """Write as much as a turn does: a full disk, a quota or a read-only file refuses it like a turn."""
    db.execute("INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(?))", (PROBE_BYTES,))
