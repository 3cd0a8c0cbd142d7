"""The audit trail in SQLite."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from openapi_server.models.audit import Actor, AuditAction, AuditEntry
from openapi_server.models.page import Page, decode_cursor, make_page
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import insert_row

MAX_ENTRY_ID = 2**63 - 1


class SqliteAudit:
    """`AuditTrail` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def record(self, entry: AuditEntry) -> None:
        await self._connections.write(lambda db: insert_row(db, "audit", encode_audit_entry(entry)))

    async def list_entries(
        self, limit: int, since: datetime | None = None, cursor: str | None = None
    ) -> Page[AuditEntry]:
        (before,) = decode_cursor(cursor, int) if cursor else (MAX_ENTRY_ID,)
        query = "SELECT * FROM audit WHERE at >= ? AND entry_id < ? ORDER BY entry_id DESC LIMIT ?"
        values = (encode_time(since) if since else "", before, limit + 1)
        rows = await self._connections.read(lambda db: db.execute(query, values).fetchall())
        return make_page(rows, limit, decode_audit_entry, "entry_id")

    async def delete_before(self, at: datetime, limit: int) -> int:
        query = "DELETE FROM audit WHERE entry_id IN (SELECT entry_id FROM audit WHERE at < ? LIMIT ?)"
        return await self._connections.write(lambda db: db.execute(query, (encode_time(at), limit)).rowcount)


def decode_audit_entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        at=datetime.fromisoformat(row["at"]),
        action=AuditAction(row["deed"]),
        actor=Actor(row["role"], row["name"]),
        target=row["about"],
        request_id=row["request_id"],
    )


def encode_audit_entry(entry: AuditEntry) -> dict[str, object]:
    return {
        "at": encode_time(entry.at),
        "deed": entry.action,
        "role": entry.actor.role,
        "name": entry.actor.name,
        "about": entry.target,
        "request_id": entry.request_id,
    }
