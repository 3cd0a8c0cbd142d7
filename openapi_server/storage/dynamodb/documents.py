"""Versioned documents in DynamoDB: animals with drafts, and rules. Each kind has one partition.

The item `HEAD` has the number of the last change, and how many documents there are. Every change replaces it, so two
never overlap; and one read of it says that nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from openapi_server.models.errors import BodyTooLarge
from openapi_server.models.page import Page, decode_cursor, make_page
from openapi_server.models.versioned_document import (
    Change,
    ChangeKind,
    Document,
    DocumentChanges,
    Draft,
    VersionedDocument,
)
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import MAX_ITEM_BYTES, Database, Key, Table, Transaction
from openapi_server.storage.dynamodb.items import after, end_of, make_state_key
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.shared_reads import SharedReads

_MAX_VERSION = 10**12 - 1
# With a document its change is written, and `HEAD` with all of them: a transaction has at most a hundred writes.
_SEEDS_AT_ONCE = 49
# Beside the document there are a few short texts.
MAX_DOCUMENT_BYTES = MAX_ITEM_BYTES - 10_000


class DynamoDocuments:
    """`DocumentStore` over the tables of a `DynamoStore`. `kind` is `animals` or `rules`."""

    def __init__(self, database: Database, kind: str) -> None:
        self._database = database
        self.kind = kind
        self._reads = SharedReads(self._read_changes)

    def _make_key(self, sort: str) -> Key:
        return make_state_key("DOCUMENTS", self.kind, sort)

    @property
    def _head_key(self) -> Key:
        return self._make_key("HEAD")

    def _document_key(self, document_id: str) -> Key:
        return self._make_key(f"DOCUMENT#{document_id}")

    def _draft_key(self, document_id: str) -> Key:
        return self._make_key(f"DRAFT#{document_id}")

    async def seed(self, documents: Mapping[str, Document], by: str, at: datetime) -> bool:
        parts = [dict(part) for part in _split(documents, _SEEDS_AT_ONCE)]

        def insert(transaction: Transaction, number: int) -> bool:
            head = transaction.get(self._head_key)
            if number == 0 and head is not None and head["count"]:
                return False
            for document_id, document in parts[number].items():
                if number == 0 or transaction.get(self._document_key(document_id)) is None:
                    self._write(transaction, Change(document_id, ChangeKind.SEED, by, at), document, is_new=True)
            return True

        for number in range(len(parts)):
            if not await self._database.transact(partial(insert, number=number)):
                return False
        return bool(parts) or not await self._has_documents()

    async def _has_documents(self) -> bool:
        head = await self._database.run(lambda: self._database.get(self._head_key))
        return bool(head and head["count"])

    async def list_changes(self, since: int) -> DocumentChanges:
        """Every turn asks for it, and nearly always nothing has changed, which takes one read."""
        return await self._reads.get(since)

    async def _read_changes(self, since: int) -> DocumentChanges:
        return await self._database.run(lambda: self._find_changes(since))

    def _find_changes(self, since: int) -> DocumentChanges:
        head = self._database.get(self._head_key)
        if head is None or head["version"] <= since:
            return DocumentChanges(since, {})
        if since == 0:
            found = list(self._query("DOCUMENT#"))
            documents: dict[str, VersionedDocument | None] = {
                each["documentId"]: _read_document(each) for each in found
            }
        else:
            low = after(_format_change(since))
            changes = list(self._query("CHANGE#", low=low, high=end_of(_format_change(head["version"]))))
            changed = sorted({change["documentId"] for change in changes})
            stored = self._database.get_many(map(self._document_key, changed))
            documents = {
                document_id: _read_document(stored[key]) if (key := self._document_key(document_id)) in stored else None
                for document_id in changed
            }
        return DocumentChanges(head["version"], documents)

    def _query(self, prefix: str, **options: Any) -> Any:
        bounds = {"low": prefix, "high": end_of(prefix), **options}
        return self._database.query(Table.STATE, f"DOCUMENTS#{self.kind}", **bounds)

    async def get_document(self, document_id: str) -> VersionedDocument | None:
        item = await self._database.run(lambda: self._database.get(self._document_key(document_id)))
        return _read_document(item) if item else None

    async def put_document(self, change: Change, version: int | None, document: Document) -> VersionedDocument | None:
        def write(transaction: Transaction) -> VersionedDocument | None:
            transaction.load(self._document_key(change.document_id), self._head_key)
            stored = transaction.get(self._document_key(change.document_id))
            if (stored["version"] if stored else None) != version:
                return None
            return self._write(transaction, change, document, is_new=stored is None)

        return await self._database.transact(write, f"documents {self.kind}")

    async def delete_document(self, change: Change, version: int) -> bool:
        def delete(transaction: Transaction) -> bool:
            transaction.load(self._document_key(change.document_id), self._head_key)
            stored = transaction.get(self._document_key(change.document_id))
            if stored is None or stored["version"] != version:
                return False
            self._write_change(transaction, change, more=-1)
            transaction.delete(self._document_key(change.document_id))
            transaction.delete(self._draft_key(change.document_id))
            return True

        return await self._database.transact(delete, f"documents {self.kind}")

    async def list_history(self, document_id: str, limit: int, cursor: str | None = None) -> Page[Change]:
        (before,) = decode_cursor(cursor, int) if cursor else (_MAX_VERSION,)
        prefix = f"HISTORY#{document_id}#"
        high = f"{prefix}{min(max(int(before), 0), _MAX_VERSION):012d}"

        def read() -> list[Item]:
            found = self._query(prefix, low=prefix, high=high, descending=True, limit=limit + 1)
            return list(islice(found, limit + 1))

        return make_page(await self._database.run(read), limit, _read_change, "version")

    def _write(
        self, transaction: Transaction, change: Change, document: Document, *, is_new: bool
    ) -> VersionedDocument:
        text = _dump(document)
        version = self._write_change(transaction, change, more=int(is_new))
        item = {
            "documentId": change.document_id,
            "version": version,
            "document": text,
            "by": change.by,
            "at": encode_time(change.at),
        }
        transaction.put(self._document_key(change.document_id), item)
        return VersionedDocument(change.document_id, version, document, change.by, change.at)

    def _write_change(self, transaction: Transaction, change: Change, *, more: int) -> int:
        """Add the change to the history; its number. `more`: how many documents there are more than before."""
        head = transaction.get(self._head_key) or {"version": 0, "count": 0}
        version: int = head["version"] + 1
        transaction.put(self._head_key, {"version": version, "count": head["count"] + more})
        item = {
            "documentId": change.document_id,
            "version": version,
            "operation": change.operation.value,
            "by": change.by,
            "at": encode_time(change.at),
            "fields": list(change.fields),
        }
        transaction.put(self._make_key(f"HISTORY#{change.document_id}#{version:012d}"), item)
        transaction.put(self._make_key(_format_change(version)), {"documentId": change.document_id})
        return version


class DynamoAnimalDocuments(DynamoDocuments):
    """`DraftStore`: the documents of animals, which alone have drafts."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "animals")

    async def get_draft(self, document_id: str) -> Draft | None:
        item = await self._database.run(lambda: self._database.get(self._draft_key(document_id)))
        return _read_draft(item) if item else None

    async def put_draft(self, draft: Draft) -> bool:
        def put(transaction: Transaction) -> bool:
            keys = self._document_key(draft.document_id), self._draft_key(draft.document_id)
            transaction.load(*keys)
            stored, earlier = map(transaction.get, keys)
            if stored is None or (earlier is not None and earlier["by"] != draft.by):
                return False
            item = {
                "documentId": draft.document_id,
                "document": _dump(draft.document),
                "basedOn": draft.based_on,
                "by": draft.by,
                "at": encode_time(draft.at),
            }
            transaction.put(self._draft_key(draft.document_id), item)
            return True

        return await self._database.transact(put)

    async def delete_draft(self, document_id: str) -> bool:
        def delete(transaction: Transaction) -> bool:
            has_draft = transaction.get(self._draft_key(document_id)) is not None
            if has_draft:
                transaction.delete(self._draft_key(document_id))
            return has_draft

        return await self._database.transact(delete)

    async def promote_draft(self, change: Change, version: int, draft: Draft) -> VersionedDocument | None:
        def promote(transaction: Transaction) -> VersionedDocument | None:
            keys = self._document_key(draft.document_id), self._draft_key(draft.document_id)
            transaction.load(*keys, self._head_key)
            stored, kept = map(transaction.get, keys)
            is_same = (
                stored is not None
                and kept is not None
                and stored["version"] == version
                and (kept["document"], kept["basedOn"]) == (_dump(draft.document), draft.based_on)
            )
            if not is_same:
                return None
            transaction.delete(self._draft_key(draft.document_id))
            return self._write(transaction, change, draft.document, is_new=False)

        return await self._database.transact(promote, f"documents {self.kind}")


class DynamoRuleDocuments(DynamoDocuments):
    """The documents of the keepers' rules."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "rules")


def _split(documents: Mapping[str, Document], size: int) -> list[list[tuple[str, Document]]]:
    items = list(documents.items())
    return [items[start : start + size] for start in range(0, len(items), size)]


def _format_change(version: int) -> str:
    return f"CHANGE#{version:012d}"


def _dump(document: Document) -> str:
    """As JSON, whose members keep their order. Raises `BodyTooLarge`."""
    text = json.dumps(document, ensure_ascii=False)
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        raise BodyTooLarge(f"A document has at most {MAX_DOCUMENT_BYTES:,} bytes.")
    return text


def _read_document(item: Item) -> VersionedDocument:
    at = datetime.fromisoformat(item["at"])
    return VersionedDocument(item["documentId"], item["version"], json.loads(item["document"]), item["by"], at)


def _read_draft(item: Item) -> Draft:
    at = datetime.fromisoformat(item["at"])
    return Draft(item["documentId"], json.loads(item["document"]), item["basedOn"], item["by"], at)


def _read_change(item: Item) -> Change:
    at, fields = datetime.fromisoformat(item["at"]), tuple(item["fields"])
    return Change(item["documentId"], ChangeKind(item["operation"]), item["by"], at, fields, item["version"])
