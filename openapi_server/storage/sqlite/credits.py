"""What users may spend, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from openapi_server.models.credits import Allocation, Balance, Charge, EntryKind, LedgerEntry
from openapi_server.models.errors import UserNotFound
from openapi_server.models.page import decode_cursor, encode_cursor
from openapi_server.models.session import Page
from openapi_server.protocols import Clock
from openapi_server.storage.sqlite import credit_rows
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import stamp

NEVER = "9999"
LAST = 2**63 - 1


class SqliteCredits:
    """`CreditStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    @property
    def _now(self) -> str:
        return stamp(self._clock.now())

    async def allocate(self, allocation: Allocation) -> LedgerEntry:
        at, until = stamp(allocation.at), stamp(allocation.expires_at) if allocation.expires_at else NEVER

        def insert(db: sqlite3.Connection) -> LedgerEntry:
            _require(db, allocation.username)
            credit_rows.expire_due(db, allocation.username, at)
            lot = (allocation.username, allocation.credits, allocation.credits, until)
            db.execute("INSERT INTO credit_lots (username, credits, remaining, expires_at) VALUES (?, ?, ?, ?)", lot)
            kind, amount, notes = EntryKind.ALLOCATE, allocation.credits, allocation.notes
            entry_id = credit_rows.enter(db, allocation.username, kind, amount, at, notes=notes)
            return ledger_entry(db.execute("SELECT * FROM credit_ledger WHERE entry_id = ?", (entry_id,)).fetchone())

        return await self._connections.write(insert)

    async def balance(self, username: str) -> Balance | None:
        now = self._now

        def select(db: sqlite3.Connection) -> Balance | None:
            return balance_now(db, username, now) if _is_known(db, username) else None

        return await self._connections.read(select)

    async def entries(self, username: str, limit: int, cursor: str | None = None) -> Page[LedgerEntry]:
        (before,) = decode_cursor(cursor, int) if cursor else (LAST,)
        query = "SELECT * FROM credit_ledger WHERE username = ? AND entry_id < ? ORDER BY entry_id DESC LIMIT ?"
        rows = await self._connections.read(lambda db: db.execute(query, (username, before, limit + 1)).fetchall())
        shown = rows[:limit]
        mark = encode_cursor(shown[-1]["entry_id"]) if len(rows) > limit else None
        return Page(tuple(ledger_entry(row) for row in shown), mark)

    async def reserve(self, charge: Charge, turn_id: str) -> None:
        now = self._now
        await self._connections.write(lambda db: credit_rows.reserve(db, charge, turn_id, now))

    async def finish(self, turn_id: str, used: int) -> None:
        now = self._now
        await self._connections.write(lambda db: credit_rows.finish(db, turn_id, used, now))


def balance_now(db: sqlite3.Connection, username: str, now: str) -> Balance:
    query = """
        SELECT coalesce(sum(remaining), 0) AS credits, min(expires_at) AS next FROM credit_lots
        WHERE username = ? AND expires_at > ? AND remaining > 0
    """
    row = db.execute(query, (username, now)).fetchone()
    is_lasting = row["next"] in (None, NEVER)
    return Balance(username, row["credits"], None if is_lasting else datetime.fromisoformat(row["next"]))


def _is_known(db: sqlite3.Connection, username: str) -> bool:
    return db.execute("SELECT 1 FROM users WHERE username = ?", (username,)).fetchone() is not None


def _require(db: sqlite3.Connection, username: str) -> None:
    if not _is_known(db, username):
        raise UserNotFound


def ledger_entry(row: sqlite3.Row) -> LedgerEntry:
    return LedgerEntry(
        entry_id=str(row["entry_id"]),
        username=row["username"],
        kind=EntryKind(row["kind"]),
        credits=row["credits"],
        at=datetime.fromisoformat(row["at"]),
        turn_id=row["turn_id"],
        notes=row["notes"],
    )
