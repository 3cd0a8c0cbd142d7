"""The office: accounts and credits as they are looked after from the command line, while servers may run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from openapi_server.accounts.passwords import Passwords
from openapi_server.clock import SystemClock
from openapi_server.config import Settings
from openapi_server.interfaces import AccountStore, Clock, CreditStore
from openapi_server.stores.sqlite import SqliteStore
from openapi_server.stores.sqlite_accounts import SqliteAccounts
from openapi_server.stores.sqlite_credits import SqliteCredits


@dataclass(frozen=True, slots=True)
class Office:
    """What the commands work with."""

    accounts: AccountStore
    credits: CreditStore
    passwords: Passwords
    clock: Clock


@asynccontextmanager
async def open_office(settings: Settings) -> AsyncIterator[Office]:
    """Open the store that the settings name, and close it again."""
    clock = SystemClock()
    async with AsyncExitStack() as parts:
        store = await SqliteStore.open(settings.sqlite_path, clock)
        parts.push_async_callback(store.close)
        passwords = Passwords()
        parts.callback(passwords.close)
        accounts, credits = SqliteAccounts(store.connections, clock), SqliteCredits(store.connections, clock)
        yield Office(accounts, credits, passwords, clock)
