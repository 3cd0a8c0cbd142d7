"""The keepers' rules, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

from openapi_server.models.rule import RuleChange, RuleChanges, RuleDocument, VersionedRule
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import encode_time

RULES = """
    SELECT rules.name, rules.version, rules.document, changes.changed_by, changes.changed_at
    FROM rules JOIN rule_changes AS changes ON changes.version = rules.version
"""


class SqliteRules:
    """`RuleStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def list_changes(self, since: int) -> RuleChanges | None:
        return await self._connections.read(lambda db: _news(db, since))

    async def get_document(self, name: str) -> VersionedRule | None:
        query = f"{RULES} WHERE rules.name = ?"
        row = await self._connections.read(lambda db: db.execute(query, (name,)).fetchone())
        return _rule(row) if row else None

    async def put_document(
        self, change: RuleChange, version: int | None, document: RuleDocument
    ) -> VersionedRule | None:
        def write(db: sqlite3.Connection) -> VersionedRule | None:
            return _write(db, change, document) if _version(db, change.name) == version else None

        return await self._connections.write(write)

    async def delete_document(self, change: RuleChange, version: int) -> bool:
        def delete(db: sqlite3.Connection) -> bool:
            query = "DELETE FROM rules WHERE name = ? AND version = ?"
            is_gone = db.execute(query, (change.name, version)).rowcount > 0
            if is_gone:
                _enter(db, change)
            return is_gone

        return await self._connections.write(delete)


def _news(db: sqlite3.Connection, since: int) -> RuleChanges | None:
    """In one transaction, or a change between the two statements would be taken for known."""
    db.execute("BEGIN")
    try:
        (last,) = db.execute("SELECT coalesce(max(version), 0) FROM rule_changes").fetchone()
        if last <= since:
            return None
        return RuleChanges(last, tuple(_rule(row) for row in db.execute(f"{RULES} ORDER BY rules.name")))
    finally:
        db.execute("COMMIT")


def _version(db: sqlite3.Connection, name: str) -> int | None:
    row = db.execute("SELECT version FROM rules WHERE name = ?", (name,)).fetchone()
    return int(row["version"]) if row else None


def _write(db: sqlite3.Connection, change: RuleChange, document: RuleDocument) -> VersionedRule:
    version = _enter(db, change)
    query = """
        INSERT INTO rules (name, version, document) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET version = excluded.version, document = excluded.document
    """
    db.execute(query, (change.name, version, json.dumps(document)))
    return VersionedRule(change.name, version, document, change.by, change.at)


def _enter(db: sqlite3.Connection, change: RuleChange) -> int:
    """Write down who did it; the number of the change."""
    query = "INSERT INTO rule_changes (name, operation, changed_by, changed_at) VALUES (?, ?, ?, ?)"
    version = db.execute(query, (change.name, change.operation, change.by, encode_time(change.at))).lastrowid
    assert version is not None  # noqa: S101  # an INSERT has one
    return version


def _rule(row: sqlite3.Row) -> VersionedRule:
    at = datetime.fromisoformat(row["changed_at"])
    return VersionedRule(row["name"], row["version"], json.loads(row["document"]), row["changed_by"], at)
