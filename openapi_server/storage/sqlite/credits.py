"""What users may spend, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from openapi_server.models.credits import Allocation, Balance, Charge, CreditEntry, CreditEntryKind
from openapi_server.models.errors import UserNotFound
from openapi_server.models.page import Page, decode_cursor, encode_cursor
from openapi_server.protocols import Clock
from openapi_server.storage.sqlite import credit_rows
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import encode_time

NEVER = "9999"
MAX_ENTRY_ID = 2**63 - 1


class SqliteCredits:
    """`CreditStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    @property
    def _now(self) -> str:
        return encode_time(self._clock.now())

    async def allocate_credits(self, allocation: Allocation) -> CreditEntry:
        at, until = encode_time(allocation.at), encode_time(allocation.expires_at) if allocation.expires_at else NEVER

        def insert(db: sqlite3.Connection) -> CreditEntry:
            _require_user(db, allocation.username)
            credit_rows.expire_credits(db, allocation.username, at)
            lot = (allocation.username, allocation.credits, allocation.credits, until)
            db.execute("INSERT INTO credit_lots (username, credits, remaining, expires_at) VALUES (?, ?, ?, ?)", lot)
            kind, amount, notes = CreditEntryKind.ALLOCATE, allocation.credits, allocation.notes
            entry_id = credit_rows.insert_entry(db, allocation.username, kind, amount, at, notes=notes)
            return decode_credit_entry(
                db.execute("SELECT * FROM credit_ledger WHERE entry_id = ?", (entry_id,)).fetchone()
            )

        return await self._connections.write(insert)

    async def get_balance(self, username: str) -> Balance | None:
        now = self._now

        def select(db: sqlite3.Connection) -> Balance | None:
            return select_balance(db, username, now) if _has_user(db, username) else None

        return await self._connections.read(select)

    async def list_entries(self, username: str, limit: int, cursor: str | None = None) -> Page[CreditEntry]:
        (before,) = decode_cursor(cursor, int) if cursor else (MAX_ENTRY_ID,)
        query = "SELECT * FROM credit_ledger WHERE username = ? AND entry_id < ? ORDER BY entry_id DESC LIMIT ?"
        rows = await self._connections.read(lambda db: db.execute(query, (username, before, limit + 1)).fetchall())
        shown = rows[:limit]
        mark = encode_cursor(shown[-1]["entry_id"]) if len(rows) > limit else None
        return Page(tuple(decode_credit_entry(row) for row in shown), mark)

    async def reserve(self, charge: Charge, turn_id: str) -> None:
        now = self._now
        await self._connections.write(lambda db: credit_rows.reserve_credits(db, charge, turn_id, now))

    async def finish(self, turn_id: str, used: int) -> None:
        now = self._now
        await self._connections.write(lambda db: credit_rows.settle_reservation(db, turn_id, used, now))


def select_balance(db: sqlite3.Connection, username: str, now: str) -> Balance:
    query = """
        SELECT coalesce(sum(remaining), 0) AS credits, min(expires_at) AS next FROM credit_lots
        WHERE username = ? AND expires_at > ? AND remaining > 0
    """
    row = db.execute(query, (username, now)).fetchone()
    is_lasting = row["next"] in (None, NEVER)
    return Balance(username, row["credits"], None if is_lasting else datetime.fromisoformat(row["next"]))


def _has_user(db: sqlite3.Connection, username: str) -> bool:
    return db.execute("SELECT 1 FROM users WHERE username = ?", (username,)).fetchone() is not None


def _require_user(db: sqlite3.Connection, username: str) -> None:
    if not _has_user(db, username):
        raise UserNotFound


def decode_credit_entry(row: sqlite3.Row) -> CreditEntry:
    return CreditEntry(
        entry_id=str(row["entry_id"]),
        username=row["username"],
        kind=CreditEntryKind(row["kind"]),
        credits=row["credits"],
        at=datetime.fromisoformat(row["at"]),
        turn_id=row["turn_id"],
        notes=row["notes"],
    )
