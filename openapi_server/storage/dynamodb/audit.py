"""The audit trail in DynamoDB: a partition a month, and beside it who is named where."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from openapi_server.models.audit import DOCUMENT_ACTIONS, Actor, AuditAction, AuditEntry
from openapi_server.models.page import Page, make_page
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table, Transaction
from openapi_server.storage.dynamodb.items import SELF, decode_position, make_state_key
from openapi_server.storage.retention_window import encode_time

MONTHS = f"AUDITMONTHS#{SELF}"


def entry_key(sort: str) -> Key:
    """An entry's sort key begins with its time, and so with its month."""
    return make_state_key("AUDIT", sort[:7], sort)


def month_key(month: str) -> Key:
    return Key(Table.STATE, MONTHS, month)


def name_key(name: str, sort: str) -> Key:
    """Finds the entries by or about a person, for an export and to erase the name."""
    return make_state_key("AUDIT_OF", name, sort)


class DynamoAudit:
    """`AuditTrail` over the tables of a `DynamoStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._last = 0
        self._months: set[str] = set()

    def _make_sort_key(self, at: str) -> str:
        """Entries of one moment keep their order: that in which this process writes them."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return f"{at}#{self._last:020d}#{secrets.token_hex(2)}"

    async def record(self, entry: AuditEntry) -> None:
        sort = self._make_sort_key(encode_time(entry.at))

        def write(transaction: Transaction) -> None:
            item = _encode_audit_entry(entry)
            transaction.put(entry_key(sort), item)
            for name in list_names(item):
                transaction.put(name_key(name, sort), {})
            if sort[:7] not in self._months:
                transaction.put(month_key(sort[:7]), {})

        await self._database.transact(write)
        self._months.add(sort[:7])

    async def list_entries(
        self, limit: int, since: datetime | None = None, cursor: str | None = None
    ) -> Page[AuditEntry]:
        before = decode_position(cursor, 1)[0] if cursor else "~"
        low = encode_time(since) if since else ""

        def read() -> list[Item]:
            return list(islice(self._read_latest_first(low, before or "\0", limit + 1), limit + 1))

        return make_page(await self._database.run(read), limit, decode_audit_entry, "sk")

    def _read_latest_first(self, low: str, high: str, limit: int) -> Iterator[Item]:
        months = [item["sk"] for item in self._database.query(Table.STATE, MONTHS, descending=True)]
        for month in months:
            if low[:7] <= month <= high[:7]:
                yield from self._database.query(
                    Table.STATE, f"AUDIT#{month}", low=low, high=high, descending=True, limit=limit
                )

    async def delete_before(self, at: datetime, limit: int) -> int:
        high = encode_time(at)

        def delete() -> int:
            deleted = 0
            for month in [item["sk"] for item in self._database.query(Table.STATE, MONTHS)]:
                if month > high[:7] or deleted == limit:
                    break
                found = self._database.query(Table.STATE, f"AUDIT#{month}", high=high, limit=limit)
                entries = list(islice(found, limit - deleted))
                keys = [name_key(name, entry["sk"]) for entry in entries for name in list_names(entry)]
                self._database.write_many(deletes=[*keys, *(entry_key(entry["sk"]) for entry in entries)])
                deleted += len(entries)
            return deleted

        return await self._database.run(delete)


def list_names(item: Item) -> set[str]:
    """The persons whom the entry names. A document is none, whatever its id looks like."""
    names = {item.get("name")}
    if item["action"] not in DOCUMENT_ACTIONS:
        names.add(item.get("target"))
    return {name for name in names if name}


def decode_audit_entry(item: Any) -> AuditEntry:
    return AuditEntry(
        at=datetime.fromisoformat(item["at"]),
        action=AuditAction(item["action"]),
        actor=Actor(item["role"], item.get("name")),
        target=item.get("target"),
        request_id=item.get("requestId"),
    )


def _encode_audit_entry(entry: AuditEntry) -> Item:
    return {
        "at": encode_time(entry.at),
        "action": entry.action.value,
        "role": entry.actor.role,
        "name": entry.actor.name,
        "target": entry.target,
        "requestId": entry.request_id,
    }
