"""The office: accounts, credits, animals and privacy, looked after from the command line while servers may run."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from openapi_server.accounts.passwords import Passwords
from openapi_server.clock import SystemClock
from openapi_server.config import Settings
from openapi_server.knowledge.admin import AnimalAdmin
from openapi_server.models.audit import Actor, AuditAction, AuditEntry
from openapi_server.protocols import (
    AccountStore,
    AuditTrail,
    Clock,
    CreditStore,
    DocumentStore,
    PersonalDataStore,
    Store,
)
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.audit import SqliteAudit
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments, SqliteRuleDocuments
from openapi_server.storage.sqlite.personal_data import SqlitePersonalData
from openapi_server.storage.sqlite.store import SqliteStore

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Office:
    """What the commands work with."""

    accounts: AccountStore
    credits: CreditStore
    animal_admin: AnimalAdmin
    rule_store: DocumentStore
    personal_data: PersonalDataStore
    audit: AuditTrail
    store: Store
    passwords: Passwords
    clock: Clock

    async def record_audit(self, deed: AuditAction, about: str | None) -> None:
        """Keep in the audit trail what whoever sits at this terminal has done."""
        await self.audit.record(AuditEntry(self.clock.now(), deed, Actor(OPERATOR, _get_operator_name()), about))


@asynccontextmanager
async def open_office(settings: Settings) -> AsyncIterator[Office]:
    """Open the store that the settings name, and close it again."""
    clock = SystemClock()
    async with AsyncExitStack() as parts:
        store = await SqliteStore.open(settings.sqlite_path, clock, settings.retention)
        parts.push_async_callback(store.close)
        passwords = Passwords()
        parts.callback(passwords.close)
        yield Office(
            accounts=SqliteAccounts(store.connections, clock),
            credits=SqliteCredits(store.connections, clock),
            animal_admin=AnimalAdmin(SqliteAnimalDocuments(store.connections), clock, settings.default_animal),
            rule_store=SqliteRuleDocuments(store.connections),
            personal_data=SqlitePersonalData(store.connections, clock, settings.retention),
            audit=SqliteAudit(store.connections),
            store=store,
            passwords=passwords,
            clock=clock,
        )


def _get_operator_name() -> str | None:
    """The name that the system knows them by; containers often know none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
