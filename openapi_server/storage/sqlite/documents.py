"""Versioned documents in the SQLite file that the sessions are stored in: animals with drafts, and rules.

Both kinds have a table of documents and a table of changes, whose numbers are the versions; `_Tables` has their
names. The changes of rules have no column for the changed fields.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from openapi_server.models.page import Page, decode_cursor, make_page
from openapi_server.models.versioned_document import (
    Change,
    ChangeKind,
    Document,
    DocumentChanges,
    Draft,
    VersionedDocument,
)
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.shared_reads import SharedReads
from openapi_server.storage.sqlite.connections import Connections

_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables of one kind of document. `id_column` is the document's id in all of them."""

    documents: str
    changes: str
    id_column: str
    has_fields: bool

    def fill(self, query: str) -> str:
        """The query for these tables: names cannot be parameters in SQL. None of them comes from outside."""
        return query.format(documents=self.documents, changes=self.changes, id=self.id_column)


_ANIMALS = _Tables("animals", "animal_changes", "animal_id", has_fields=True)
_RULES = _Tables("rules", "rule_changes", "name", has_fields=False)

_DOCUMENTS = """
    SELECT documents.{id} AS document_id, documents.version, documents.document, changes.changed_by, changes.changed_at
    FROM {documents} AS documents JOIN {changes} AS changes ON changes.version = documents.version
"""
# One statement, so that it sees one moment; by the primary key, so that it costs nothing when nothing has changed.
_CHANGED = """
    WITH latest AS (
        SELECT {id} AS document_id, max(version) AS latest FROM {changes} NOT INDEXED WHERE version > ? GROUP BY {id}
    )
    SELECT latest.document_id, latest.latest, documents.version, documents.document,
        changes.changed_by, changes.changed_at
    FROM latest LEFT JOIN {documents} AS documents ON documents.{id} = latest.document_id
    LEFT JOIN {changes} AS changes ON changes.version = documents.version
    ORDER BY latest.document_id
"""
_HAS_CHANGED = "SELECT 1 FROM {changes} WHERE version > ? LIMIT 1"


class SqliteDocuments:
    """`DocumentStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, tables: _Tables) -> None:
        self._connections = connections
        self._tables = tables
        self._has_changed = tables.fill(_HAS_CHANGED)
        self._reads = SharedReads(self._read_changes)

    async def seed(self, documents: Mapping[str, Document], by: str, at: datetime) -> bool:
        is_filled = self._tables.fill("SELECT 1 FROM {documents} LIMIT 1")

        def insert(db: sqlite3.Connection) -> bool:
            if db.execute(is_filled).fetchone() is not None:
                return False
            for document_id, document in documents.items():
                self._write(db, Change(document_id, ChangeKind.SEED, by, at), document)
            return True

        return await self._connections.write(insert)

    async def list_changes(self, since: int) -> DocumentChanges:
        """Every turn asks for it, and nearly always nothing has changed, which is seen at once."""
        if self._connections.read_at_once(lambda db: not db.execute(self._has_changed, (since,)).fetchall()):
            return DocumentChanges(since, {})
        return await self._reads.get(since)

    async def _read_changes(self, since: int) -> DocumentChanges:
        query = self._tables.fill(_CHANGED)
        rows = await self._connections.read(lambda db: db.execute(query, (since,)).fetchall())
        documents = {row["document_id"]: _read_document(row) if row["version"] else None for row in rows}
        return DocumentChanges(max((row["latest"] for row in rows), default=since), documents)

    async def get_document(self, document_id: str) -> VersionedDocument | None:
        row = await self._get_row(_DOCUMENTS + "WHERE documents.{id} = ?", document_id)
        return _read_document(row) if row else None

    async def put_document(self, change: Change, version: int | None, document: Document) -> VersionedDocument | None:
        def write(db: sqlite3.Connection) -> VersionedDocument | None:
            is_expected = self._get_version(db, change.document_id) == version
            return self._write(db, change, document) if is_expected else None

        return await self._connections.write(write)

    async def delete_document(self, change: Change, version: int) -> bool:
        query = self._tables.fill("DELETE FROM {documents} WHERE {id} = ? AND version = ?")

        def delete(db: sqlite3.Connection) -> bool:
            is_deleted = db.execute(query, (change.document_id, version)).rowcount > 0
            if is_deleted:
                self._write_change(db, change)
            return is_deleted

        return await self._connections.write(delete)

    async def list_history(self, document_id: str, limit: int, cursor: str | None = None) -> Page[Change]:
        (before,) = decode_cursor(cursor, int) if cursor else (_MAX_VERSION,)
        query = self._tables.fill(
            "SELECT * FROM {changes} WHERE {id} = ? AND version < ? ORDER BY version DESC LIMIT ?"
        )
        values = (document_id, before, limit + 1)
        rows = await self._connections.read(lambda db: db.execute(query, values).fetchall())
        return make_page(rows, limit, self._read_change, "version")

    async def _get_row(self, query: str, document_id: str) -> sqlite3.Row | None:
        query = self._tables.fill(query)
        row: sqlite3.Row | None = await self._connections.read(lambda db: db.execute(query, (document_id,)).fetchone())
        return row

    def _get_version(self, db: sqlite3.Connection, document_id: str) -> int | None:
        query = self._tables.fill("SELECT version FROM {documents} WHERE {id} = ?")
        row = db.execute(query, (document_id,)).fetchone()
        return int(row["version"]) if row else None

    def _write(self, db: sqlite3.Connection, change: Change, document: Document) -> VersionedDocument:
        version = self._write_change(db, change)
        query = """
            INSERT INTO {documents} ({id}, version, document) VALUES (?, ?, ?)
            ON CONFLICT ({id}) DO UPDATE SET version = excluded.version, document = excluded.document
        """
        db.execute(self._tables.fill(query), (change.document_id, version, json.dumps(document)))
        return VersionedDocument(change.document_id, version, document, change.by, change.at)

    def _write_change(self, db: sqlite3.Connection, change: Change) -> int:
        """Add the change to the document's history; its number."""
        row = [change.document_id, change.operation, change.by, encode_time(change.at)]
        if self._tables.has_fields:
            query = "INSERT INTO {changes} ({id}, operation, changed_by, changed_at, fields) VALUES (?, ?, ?, ?, ?)"
            row.append(json.dumps(change.fields))
        else:
            query = "INSERT INTO {changes} ({id}, operation, changed_by, changed_at) VALUES (?, ?, ?, ?)"
        version = db.execute(self._tables.fill(query), row).lastrowid
        assert version is not None  # noqa: S101  # an INSERT has one
        return version

    def _read_change(self, row: sqlite3.Row) -> Change:
        operation, at = ChangeKind(row["operation"]), datetime.fromisoformat(row["changed_at"])
        fields = tuple(json.loads(row["fields"])) if self._tables.has_fields else ()
        return Change(row[self._tables.id_column], operation, row["changed_by"], at, fields, row["version"])


class SqliteAnimalDocuments(SqliteDocuments):
    """`DraftStore`: the documents of animals, which alone have drafts."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections, _ANIMALS)

    async def get_draft(self, document_id: str) -> Draft | None:
        row = await self._get_row("SELECT * FROM animal_drafts WHERE animal_id = ?", document_id)
        return _read_draft(row) if row else None

    async def put_draft(self, draft: Draft) -> bool:
        values = (json.dumps(draft.document), draft.based_on, draft.by, encode_time(draft.at), draft.document_id)
        query = """
            INSERT INTO animal_drafts (document, based_on, made_by, made_at, animal_id)
            SELECT ?, ?, ?, ?, animal_id FROM animals WHERE animal_id = ?
            ON CONFLICT (animal_id) DO UPDATE SET
            document = excluded.document, based_on = excluded.based_on, made_at = excluded.made_at
            WHERE made_by = excluded.made_by
        """
        return await self._connections.write(lambda db: db.execute(query, values).rowcount > 0)

    async def delete_draft(self, document_id: str) -> bool:
        query = "DELETE FROM animal_drafts WHERE animal_id = ?"
        return await self._connections.write(lambda db: db.execute(query, (document_id,)).rowcount > 0)

    async def promote_draft(self, change: Change, version: int, draft: Draft) -> VersionedDocument | None:
        query = "DELETE FROM animal_drafts WHERE animal_id = ? AND document = ? AND based_on = ?"
        values = (draft.document_id, json.dumps(draft.document), draft.based_on)

        def promote(db: sqlite3.Connection) -> VersionedDocument | None:
            if self._get_version(db, draft.document_id) != version:
                return None
            is_same = db.execute(query, values).rowcount > 0
            return self._write(db, change, draft.document) if is_same else None

        return await self._connections.write(promote)


class SqliteRuleDocuments(SqliteDocuments):
    """The documents of the keepers' rules."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections, _RULES)


def _read_document(row: sqlite3.Row) -> VersionedDocument:
    at = datetime.fromisoformat(row["changed_at"])
    return VersionedDocument(row["document_id"], row["version"], json.loads(row["document"]), row["changed_by"], at)


def _read_draft(row: sqlite3.Row) -> Draft:
    made_at = datetime.fromisoformat(row["made_at"])
    return Draft(row["animal_id"], json.loads(row["document"]), row["based_on"], row["made_by"], made_at)
