"""Which storage backend holds the data. Another backend (DynamoDB, say) is one more function like `open_stores`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from openapi_server.config import Settings
from openapi_server.protocols import (
    AccountStore,
    AuditTrail,
    Clock,
    CreditStore,
    DocumentStore,
    DraftStore,
    PersonalDataStore,
    Store,
)
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.audit import SqliteAudit
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments, SqliteRuleDocuments
from openapi_server.storage.sqlite.personal_data import SqlitePersonalData
from openapi_server.storage.sqlite.store import SqliteStore


@dataclass(frozen=True, slots=True)
class Stores:
    """One store a protocol, all over the same database. `sessions` holds the sessions with their turns."""

    sessions: Store
    accounts: AccountStore
    credits: CreditStore
    animals: DraftStore
    rules: DocumentStore
    personal_data: PersonalDataStore
    audit: AuditTrail


@asynccontextmanager
async def open_stores(settings: Settings, clock: Clock) -> AsyncIterator[Stores]:
    """Open the database that the settings name and close it at the end. Raises `StoreUnavailable`."""
    store = await SqliteStore.open(settings.sqlite_path, clock, settings.retention)
    try:
        yield Stores(
            sessions=store,
            accounts=SqliteAccounts(store.connections, clock),
            credits=SqliteCredits(store.connections, clock),
            animals=SqliteAnimalDocuments(store.connections),
            rules=SqliteRuleDocuments(store.connections),
            personal_data=SqlitePersonalData(store.connections, clock, settings.retention),
            audit=SqliteAudit(store.connections),
        )
    finally:
        await store.close()
