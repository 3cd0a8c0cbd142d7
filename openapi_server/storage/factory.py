"""Which storage backend holds the data: a SQLite file, or tables of DynamoDB. Another one is a function like these.

DynamoDB is imported only where the settings want it: boto3 takes longer than all else of a start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from openapi_server.config import DynamoLocation, Settings
from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import (
    AccountStore,
    AuditTrail,
    Clock,
    CreditStore,
    DocumentStore,
    DraftStore,
    PersonalDataStore,
    RequestStore,
    Store,
)
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.audit import SqliteAudit
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.database_files import explain_failure
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments, SqliteRuleDocuments
from openapi_server.storage.sqlite.idempotency import SqliteRequests
from openapi_server.storage.sqlite.personal_data import SqlitePersonalData
from openapi_server.storage.sqlite.sessions import SqliteStore


@dataclass(frozen=True, slots=True)
class Stores:
    """One store a protocol, all over the same database. `sessions` holds the sessions with their turns.

    `queues`: how many operations wait now, by the name of the queue.
    """

    sessions: Store
    accounts: AccountStore
    credits: CreditStore
    animals: DraftStore
    rules: DocumentStore
    personal_data: PersonalDataStore
    audit: AuditTrail
    requests: RequestStore
    queues: Mapping[str, Callable[[], int]]


def open_stores(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Stores]:
    """Open the database that the settings name and close it at the end. Raises `StoreUnavailable`."""
    if settings.store == "dynamodb":
        return open_dynamodb_stores(settings.dynamodb_location, clock, settings.retention)
    return open_sqlite_stores(settings.sqlite_path, clock, settings.retention)


def explain_unavailable(settings: Settings, error: StoreUnavailable) -> str:
    """Why the database of the settings could not be used, in a sentence that names the setting."""
    if settings.store == "dynamodb":
        from openapi_server.storage.dynamodb.opening import explain_failure as explain_dynamodb_failure

        return explain_dynamodb_failure(settings.dynamodb_location, error.__cause__)
    return f"SQLITE_PATH: {explain_failure(settings.sqlite_path, error.__cause__)}"


@asynccontextmanager
async def open_sqlite_stores(path: Path, clock: Clock, retention: timedelta | None = None) -> AsyncIterator[Stores]:
    """The stores over one SQLite file. `retention`: how long turns are kept; None: as long as their session."""
    store = await SqliteStore.open(path, clock, retention)
    try:
        yield Stores(
            sessions=store,
            accounts=SqliteAccounts(store.connections, clock),
            credits=SqliteCredits(store.connections, clock),
            animals=SqliteAnimalDocuments(store.connections),
            rules=SqliteRuleDocuments(store.connections),
            personal_data=SqlitePersonalData(store.connections, clock, retention),
            audit=SqliteAudit(store.connections),
            requests=SqliteRequests(store.connections, clock),
            queues={
                "store_writes": lambda: store.connections.waiting_writes,
                "store_reads": lambda: store.connections.waiting_reads,
            },
        )
    finally:
        await store.close()


@asynccontextmanager
async def open_dynamodb_stores(
    location: DynamoLocation, clock: Clock, retention: timedelta | None = None
) -> AsyncIterator[Stores]:
    """The stores over the tables of DynamoDB, which must exist. `retention`: how long turns are kept; None: as long as
    their session."""
    from openapi_server.storage.dynamodb.accounts import DynamoAccounts
    from openapi_server.storage.dynamodb.audit import DynamoAudit
    from openapi_server.storage.dynamodb.credits import DynamoCredits
    from openapi_server.storage.dynamodb.documents import DynamoAnimalDocuments, DynamoRuleDocuments
    from openapi_server.storage.dynamodb.idempotency import DynamoRequests
    from openapi_server.storage.dynamodb.opening import open_database
    from openapi_server.storage.dynamodb.personal_data import DynamoPersonalData
    from openapi_server.storage.dynamodb.sessions import DynamoStore

    database = await open_database(location)
    try:
        yield Stores(
            sessions=DynamoStore(database, clock, retention),
            accounts=DynamoAccounts(database, clock),
            credits=DynamoCredits(database, clock),
            animals=DynamoAnimalDocuments(database),
            rules=DynamoRuleDocuments(database),
            personal_data=DynamoPersonalData(database, clock, retention),
            audit=DynamoAudit(database),
            requests=DynamoRequests(database, clock),
            queues={"store_steps": lambda: database.waiting},
        )
    finally:
        await database.close()
