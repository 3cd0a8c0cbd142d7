"""What the keepers wrote, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from openapi_server.models.document import Change, Document, DocumentChanges, Draft, Operation, VersionedDocument
from openapi_server.models.page import Page, decode_cursor, encode_cursor
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import encode_time

LAST = 2**63 - 1

# One statement, so that it sees one moment; by the primary key, so that it costs nothing when there is nothing new.
NEWS = """
    SELECT changes.animal_id, max(changes.version) AS news, animals.version, animals.document
    FROM animal_changes AS changes LEFT JOIN animals USING (animal_id)
    WHERE changes.version > ? GROUP BY changes.animal_id ORDER BY changes.animal_id
"""


class SqliteAnimals:
    """`AnimalStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def seed(self, documents: Sequence[Document], by: str, at: datetime) -> bool:
        def insert(db: sqlite3.Connection) -> bool:
            if db.execute("SELECT 1 FROM animals LIMIT 1").fetchone() is not None:
                return False
            for document in documents:
                _write(db, Change(document["animal_id"], Operation.SEED, by, at), document)
            return True

        return await self._connections.write(insert)

    async def list_changes(self, since: int) -> DocumentChanges:
        rows = await self._connections.read(lambda db: db.execute(NEWS, (since,)).fetchall())
        animals = {row["animal_id"]: _animal(row) if row["document"] is not None else None for row in rows}
        return DocumentChanges(max((row["news"] for row in rows), default=since), animals)

    async def get_document(self, animal_id: str) -> VersionedDocument | None:
        row = await self._one("SELECT * FROM animals WHERE animal_id = ?", animal_id)
        return _animal(row) if row else None

    async def add(self, change: Change, document: Document) -> VersionedDocument | None:
        def insert(db: sqlite3.Connection) -> VersionedDocument | None:
            is_taken = _version(db, change.document_id) is not None
            return None if is_taken else _write(db, change, document)

        return await self._connections.write(insert)

    async def replace(self, change: Change, version: int, document: Document) -> VersionedDocument | None:
        def update(db: sqlite3.Connection) -> VersionedDocument | None:
            is_same = _version(db, change.document_id) == version
            return _write(db, change, document) if is_same else None

        return await self._connections.write(update)

    async def delete_document(self, change: Change, version: int) -> bool:
        def delete(db: sqlite3.Connection) -> bool:
            query = "DELETE FROM animals WHERE animal_id = ? AND version = ?"
            is_gone = db.execute(query, (change.document_id, version)).rowcount > 0
            if is_gone:
                _enter(db, change)
            return is_gone

        return await self._connections.write(delete)

    async def list_history(self, animal_id: str, limit: int, cursor: str | None = None) -> Page[Change]:
        (before,) = decode_cursor(cursor, int) if cursor else (LAST,)
        query = "SELECT * FROM animal_changes WHERE animal_id = ? AND version < ? ORDER BY version DESC LIMIT ?"
        rows = await self._connections.read(lambda db: db.execute(query, (animal_id, before, limit + 1)).fetchall())
        shown = rows[:limit]
        mark = encode_cursor(shown[-1]["version"]) if len(rows) > limit else None
        return Page(tuple(_change(row) for row in shown), mark)

    async def get_draft(self, animal_id: str) -> Draft | None:
        row = await self._one("SELECT * FROM animal_drafts WHERE animal_id = ?", animal_id)
        return _draft(row) if row else None

    async def put_draft(self, draft: Draft) -> bool:
        values = (json.dumps(draft.document), draft.based_on, draft.by, encode_time(draft.at), draft.document_id)

        def insert(db: sqlite3.Connection) -> bool:
            query = """
                INSERT INTO animal_drafts (document, based_on, made_by, made_at, animal_id)
                SELECT ?, ?, ?, ?, animal_id FROM animals WHERE animal_id = ?
                ON CONFLICT (animal_id) DO UPDATE SET
                document = excluded.document, based_on = excluded.based_on, made_at = excluded.made_at
                WHERE made_by = excluded.made_by
            """
            return db.execute(query, values).rowcount > 0

        return await self._connections.write(insert)

    async def delete_draft(self, animal_id: str) -> bool:
        query = "DELETE FROM animal_drafts WHERE animal_id = ?"
        return await self._connections.write(lambda db: db.execute(query, (animal_id,)).rowcount > 0)

    async def promote_draft(self, change: Change, version: int, draft: Draft) -> VersionedDocument | None:
        values = (draft.document_id, json.dumps(draft.document), draft.based_on)

        def move(db: sqlite3.Connection) -> VersionedDocument | None:
            if _version(db, draft.document_id) != version:
                return None
            query = "DELETE FROM animal_drafts WHERE animal_id = ? AND document = ? AND based_on = ?"
            is_same = db.execute(query, values).rowcount > 0
            return _write(db, change, draft.document) if is_same else None

        return await self._connections.write(move)

    async def _one(self, query: str, animal_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = await self._connections.read(lambda db: db.execute(query, (animal_id,)).fetchone())
        return row


def _version(db: sqlite3.Connection, animal_id: str) -> int | None:
    row = db.execute("SELECT version FROM animals WHERE animal_id = ?", (animal_id,)).fetchone()
    return int(row["version"]) if row else None


def _write(db: sqlite3.Connection, change: Change, document: Document) -> VersionedDocument:
    version = _enter(db, change)
    query = """
        INSERT INTO animals (animal_id, version, document) VALUES (?, ?, ?)
        ON CONFLICT (animal_id) DO UPDATE SET version = excluded.version, document = excluded.document
    """
    db.execute(query, (change.document_id, version, json.dumps(document)))
    return VersionedDocument(change.document_id, version, document)


def _enter(db: sqlite3.Connection, change: Change) -> int:
    """Write the change into the animal's history; its number."""
    query = "INSERT INTO animal_changes (animal_id, operation, changed_by, changed_at, fields) VALUES (?, ?, ?, ?, ?)"
    row = (change.document_id, change.operation, change.by, encode_time(change.at), json.dumps(change.fields))
    version = db.execute(query, row).lastrowid
    assert version is not None  # noqa: S101  # an INSERT has one
    return version


def _animal(row: sqlite3.Row) -> VersionedDocument:
    return VersionedDocument(row["animal_id"], row["version"], json.loads(row["document"]))


def _change(row: sqlite3.Row) -> Change:
    at, fields = datetime.fromisoformat(row["changed_at"]), tuple(json.loads(row["fields"]))
    return Change(row["animal_id"], Operation(row["operation"]), row["changed_by"], at, fields, row["version"])


def _draft(row: sqlite3.Row) -> Draft:
    made_at = datetime.fromisoformat(row["made_at"])
    return Draft(row["animal_id"], json.loads(row["document"]), row["based_on"], row["made_by"], made_at)
