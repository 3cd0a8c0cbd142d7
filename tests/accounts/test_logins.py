"""Logging in, as far as no other test sees it: what costs time, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from openapi_server.accounts.login_protection import LoginProtection
from openapi_server.accounts.logins import AccountService
from openapi_server.accounts.passwords import PasswordCheck, Passwords
from openapi_server.accounts.tokens import AccessTokens
from openapi_server.config import DEVELOPMENT_KEY
from openapi_server.models.errors import BadCredentials
from openapi_server.models.user import Role, User
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import NOON
from tests.support.fakes import CHEAP_HASHER, FakeClock


class CountingPasswords(Passwords):
    """Passwords that count how many hashes were looked at; `meanwhile` happens while the next one is."""

    def __init__(self) -> None:
        super().__init__(CHEAP_HASHER)
        self.checked = 0
        self.new_hash_meanwhile: tuple[SqliteAccounts, str] | None = None

    async def check(self, password_hash: str | None, password: str) -> PasswordCheck:
        self.checked += 1
        checked = await super().check(password_hash, password)
        if self.new_hash_meanwhile is not None:
            store, new_hash = self.new_hash_meanwhile
            await store.reset_password("ben", new_hash)
        return checked


@dataclass(frozen=True)
class Parts:
    store: SqliteAccounts
    passwords: CountingPasswords
    accounts: AccountService


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """Accounts in which Ben has one."""
    clock, passwords = FakeClock(), CountingPasswords()
    sqlite = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    store = SqliteAccounts(sqlite.connections, clock)
    await store.create_user(User("ben", Role.USER, await passwords.hash("roar roar"), NOON))
    tokens, protection = AccessTokens(DEVELOPMENT_KEY, 900), LoginProtection(DEVELOPMENT_KEY, clock.monotonic)
    yield Parts(store, passwords, AccountService(store, passwords, tokens, clock, 3600, protection))
    passwords.close()
    await sqlite.close()


@pytest.mark.parametrize("username", ["ben", "nobody"])
async def test_a_refusal_costs_one_hash_for_everybody(parts: Parts, username: str) -> None:
    """So nobody hears from the clock who has an account."""
    with pytest.raises(BadCredentials):
        await parts.accounts.login(username, "wrong one")

    assert parts.passwords.checked == 1


async def test_a_login_makes_an_old_hash_stronger(parts: Parts) -> None:
    """Once; the password stays what it was."""
    old = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("roar roar")
    await parts.store.reset_password("ben", old)

    await parts.accounts.login("ben", "roar roar")
    kept = await parts.store.get_user("ben")
    await parts.accounts.login("ben", "roar roar")

    assert kept is not None
    assert kept.password_hash != old
    assert await parts.store.get_user("ben") == kept


async def test_a_password_that_is_changed_meanwhile_lets_nobody_in(parts: Parts) -> None:
    """A reset logs everybody out, those included who are just coming in."""
    parts.passwords.new_hash_meanwhile = (parts.store, await parts.passwords.hash("a new password"))

    with pytest.raises(BadCredentials):
        await parts.accounts.login("ben", "roar roar")
