"""The audit trail, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from openapi_server.models.audit import Actor, AuditEntry, Deed
from openapi_server.models.page import decode_cursor, encode_cursor
from openapi_server.models.session import Page
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import stamp
from openapi_server.storage.sqlite.turns import insert

LAST = 2**63 - 1


class SqliteAudit:
    """`AuditTrail` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def note(self, entry: AuditEntry) -> None:
        await self._connections.write(lambda db: insert(db, "audit", _row(entry)))

    async def entries(self, limit: int, since: datetime | None = None, cursor: str | None = None) -> Page[AuditEntry]:
        (before,) = decode_cursor(cursor, int) if cursor else (LAST,)
        query = "SELECT * FROM audit WHERE at >= ? AND entry_id < ? ORDER BY entry_id DESC LIMIT ?"
        values = (stamp(since) if since else "", before, limit + 1)
        rows = await self._connections.read(lambda db: db.execute(query, values).fetchall())
        shown = rows[:limit]
        mark = encode_cursor(shown[-1]["entry_id"]) if len(rows) > limit else None
        return Page(tuple(audit_entry(row) for row in shown), mark)

    async def drop_before(self, at: datetime, limit: int) -> int:
        query = "DELETE FROM audit WHERE entry_id IN (SELECT entry_id FROM audit WHERE at < ? LIMIT ?)"
        return await self._connections.write(lambda db: db.execute(query, (stamp(at), limit)).rowcount)


def audit_entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        at=datetime.fromisoformat(row["at"]),
        deed=Deed(row["deed"]),
        actor=Actor(row["role"], row["name"]),
        about=row["about"],
        request_id=row["request_id"],
    )


def _row(entry: AuditEntry) -> dict[str, object]:
    return {
        "at": stamp(entry.at),
        "deed": entry.deed,
        "role": entry.actor.role,
        "name": entry.actor.name,
        "about": entry.about,
        "request_id": entry.request_id,
    }
