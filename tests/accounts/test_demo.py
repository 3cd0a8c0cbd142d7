"""The accounts for development, and how production keeps clear of them: the real composition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from openapi_server.accounts.logins import DEMO_USERS
from openapi_server.cli.context import open_admin_context
from openapi_server.composition import open_services
from openapi_server.config import ConfigError, Settings
from openapi_server.models.errors import BadCredentials
from openapi_server.models.user import Role
from tests.support.examples import OWN_KEY

PRODUCTION = {"environment": "production", "signing_key": OWN_KEY}


@pytest.fixture(autouse=True)
def _bare_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No developer's .env.local may reach a test."""
    monkeypatch.chdir(tmp_path)


def make_settings(**given: Any) -> Settings:
    return Settings(sqlite_path=Path("zoo.sqlite3"), **given)


async def start_and_stop(**given: Any) -> None:
    async with open_services(make_settings(**given)):
        pass


async def test_development_has_somebody_of_each_role() -> None:
    """Their passwords stand in the documentation; a second start changes nothing."""
    await start_and_stop()

    async with open_services(make_settings()) as services:
        for username, role in {
            "user1": Role.USER,
            "parent1": Role.PARENT,
            "keeper1": Role.ZOOKEEPER,
            "admin": Role.ADMINISTRATOR,
        }.items():
            assert (await services.accounts.login(username, f"{username}-demo")).role is role
        balance = await services.credits.get_balance("user1")
        assert balance is not None
        assert balance.credits == 0


async def test_without_demo_users_there_are_none() -> None:
    """`DEMO_USERS=off`, and production."""
    for given in ({"demo_users": "off"}, PRODUCTION):
        async with open_services(make_settings(**given)) as services:
            with pytest.raises(BadCredentials):
                await services.accounts.login("admin", "admin-demo")


async def test_production_does_not_start_over_a_database_that_has_them() -> None:
    """It names them and says how to mend it; each new password is one fewer, and then it starts."""
    await start_and_stop()

    with pytest.raises(ConfigError, match=r"^SQLITE_PATH: .*admin, keeper1, parent1, user1.*reset-password NAME"):
        await start_and_stop(**PRODUCTION)

    async with open_admin_context(make_settings()) as context:
        for username in ("user1", "parent1", "keeper1"):
            await context.stores.accounts.reset_password(username, await context.passwords.hash("a new password"))
    with pytest.raises(ConfigError, match=r"\(admin\)"):
        await start_and_stop(**PRODUCTION)
    async with open_admin_context(make_settings()) as context:
        await context.stores.accounts.reset_password("admin", await context.passwords.hash("a new password"))
    async with open_services(make_settings(**PRODUCTION)) as services:
        assert (await services.accounts.login("admin", "a new password")).role is Role.ADMINISTRATOR
        with pytest.raises(BadCredentials):
            await services.accounts.login("user1", "user1-demo")


async def test_a_password_that_was_changed_is_not_changed_back() -> None:
    """A developer may have made the account their own."""
    await start_and_stop()
    async with open_admin_context(make_settings()) as context:
        await context.stores.accounts.reset_password("admin", await context.passwords.hash("a new password"))

    async with open_services(make_settings()) as services:
        assert (await services.accounts.login("admin", "a new password")).role is Role.ADMINISTRATOR


async def test_a_first_start_hashes_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes of the demo accounts are known, and have the costs of others: a login makes none anew."""

    def hash_again(hasher: PasswordHasher, password: str) -> str:
        pytest.fail("a password was hashed")

    monkeypatch.setattr(PasswordHasher, "hash", hash_again)

    async with open_services(make_settings()) as services:
        for username, _, _ in DEMO_USERS:
            assert (await services.accounts.login(username, f"{username}-demo")).username == username
