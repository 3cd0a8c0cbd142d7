"""What every `AccountStore` promises, whatever the backend: nothing here knows of tables, keys or files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from openapi_server.models.user import AuthenticatedUser, Login, Role, User
from openapi_server.protocols import Clock
from openapi_server.storage.factory import Stores
from tests.support.examples import NOON
from tests.support.fakes import FakeClock
from tests.support.stores import OpensStores

RACERS = 50
DAY_S = 86_400
MIA = User("mia", Role.PARENT, "hash of mia's", NOON)
BEN = User("ben", Role.USER, "hash of ben's", NOON, parent="mia", is_demo=True)


@pytest.fixture
async def stores(opens: OpensStores, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stores]:
    """A store of each implementation in which Mia and her son Ben have accounts."""
    async with opens(tmp_path, clock) as opened:
        assert await opened.accounts.create_user(MIA)
        assert await opened.accounts.create_user(BEN)
        yield opened


def make_login(clock: Clock, login_id: str = "login_1", username: str = "ben") -> Login:
    return Login(login_id, username, clock.now(), clock.now() + timedelta(days=30))


async def log_in(stores: Stores, clock: Clock, first: str = "token 1", login_id: str = "login_1") -> Login:
    login = make_login(clock, login_id)
    assert await stores.accounts.create_login(login, first, BEN.password_hash)
    return login


# People


async def test_an_account_comes_back_as_it_was(stores: Stores) -> None:
    """Every field; and a name that is not there is None."""
    assert await stores.accounts.get_user("ben") == BEN
    assert list(await stores.accounts.list_users()) == [BEN, MIA]
    assert await stores.accounts.get_user("nobody") is None


async def test_a_name_is_given_once(stores: Stores) -> None:
    """The second one is refused and changes nothing."""
    assert not await stores.accounts.create_user(User("ben", Role.ADMINISTRATOR, "other", NOON))
    assert await stores.accounts.get_user("ben") == BEN


async def test_a_new_role_and_a_new_password_are_kept(stores: Stores) -> None:
    """A demo account with a new password is an ordinary account."""
    assert await stores.accounts.set_role("ben", Role.ZOOKEEPER)
    assert await stores.accounts.reset_password("ben", "new hash")

    assert await stores.accounts.get_user("ben") == replace(
        BEN, role=Role.ZOOKEEPER, password_hash="new hash", is_demo=False
    )
    assert not await stores.accounts.set_role("nobody", Role.USER)
    assert not await stores.accounts.reset_password("nobody", "hash")


async def test_a_rehash_never_brings_an_old_password_back(stores: Stores) -> None:
    """It replaces only the hash that it was made from."""
    await stores.accounts.rehash_password("ben", BEN.password_hash, "stronger")
    assert await stores.accounts.get_user("ben") == replace(BEN, password_hash="stronger")

    await stores.accounts.rehash_password("ben", BEN.password_hash, "late")
    assert await stores.accounts.get_user("ben") == replace(BEN, password_hash="stronger")


# Logins


async def test_a_login_gives_the_user_as_they_are_now(stores: Stores, clock: FakeClock) -> None:
    """The role and the children are those in the store, not those at the time of the login."""
    await log_in(stores, clock)
    assert await stores.accounts.create_login(make_login(clock, "login_m", "mia"), "token m", MIA.password_hash)

    assert await stores.accounts.get_authenticated_user("ben", "login_1") == AuthenticatedUser(
        "ben", Role.USER, (), "login_1"
    )
    assert await stores.accounts.get_authenticated_user("mia", "login_m") == AuthenticatedUser(
        "mia", Role.PARENT, ("ben",), "login_m"
    )
    await stores.accounts.set_role("mia", Role.USER)
    assert await stores.accounts.get_authenticated_user("mia", "login_m") == AuthenticatedUser(
        "mia", Role.USER, (), "login_m"
    )


async def test_a_login_belongs_to_one_user(stores: Stores, clock: FakeClock) -> None:
    """None for another name, and for an unknown login."""
    await log_in(stores, clock)

    assert await stores.accounts.get_authenticated_user("mia", "login_1") is None
    assert await stores.accounts.get_authenticated_user("ben", "login_2") is None


async def test_a_login_needs_the_password_that_is_still_good(stores: Stores, clock: FakeClock) -> None:
    """It may have been changed while the old one was being checked."""
    await stores.accounts.reset_password("ben", "new hash")

    assert not await stores.accounts.create_login(make_login(clock), "token", BEN.password_hash)
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None


async def refresh(stores: Stores, clock: FakeClock, *token_hashes: str) -> tuple[Login, int] | None:
    """A refresh with these tokens, which lets the login last for thirty days; repeatable for ten seconds."""
    until, since = clock.now() + timedelta(days=30), clock.now() - timedelta(seconds=10)
    return await stores.accounts.refresh_login(token_hashes, until, since)


async def test_a_refresh_replaces_the_token_and_lets_the_login_last(stores: Stores, clock: FakeClock) -> None:
    """The same login, with a new end."""
    login = await log_in(stores, clock)
    clock.advance(29 * DAY_S)
    until = clock.now() + timedelta(days=30)

    assert await refresh(stores, clock, "token 1", "token 2") == (replace(login, expires_at=until), 1)
    clock.advance(29 * DAY_S)
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is not None
    assert await refresh(stores, clock, "token 2", "token 3") is not None


async def test_a_refresh_that_is_repeated_at_once_changes_nothing(stores: Stores, clock: FakeClock) -> None:
    """Two tabs, or an answer that was lost: both get the token that is valid now, also after another refresh."""
    await log_in(stores, clock)
    first = await refresh(stores, clock, "token 1", "token 2", "token 3")
    clock.advance(5)

    assert await refresh(stores, clock, "token 1", "token 2", "token 3") == first
    assert await refresh(stores, clock, "token 2", "token 3") is not None
    last = await refresh(stores, clock, "token 1", "token 2", "token 3")

    assert last is not None
    assert last[1] == 2
    assert await refresh(stores, clock, "token 1", "token 2") is None, "its successors are used up"
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is not None


async def test_a_refresh_token_that_comes_again_later_ends_the_login(stores: Stores, clock: FakeClock) -> None:
    """Two parties hold the token, so one has stolen it: both are logged out. Other logins stay."""
    await log_in(stores, clock)
    await log_in(stores, clock, "other token", "login_2")
    assert await refresh(stores, clock, "token 1", "token 2") is not None
    clock.advance(10)

    assert await refresh(stores, clock, "token 1", "token 2") is None

    assert await refresh(stores, clock, "token 2", "token 3") is None
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None
    assert await stores.accounts.get_authenticated_user("ben", "login_2") is not None


async def test_a_repeated_refresh_never_revives_a_login(stores: Stores, clock: FakeClock) -> None:
    """A logout between both wins."""
    await log_in(stores, clock)
    assert await refresh(stores, clock, "token 1", "token 2") is not None
    await stores.accounts.end_login("login_1")

    assert await refresh(stores, clock, "token 1", "token 2") is None


async def test_many_concurrent_refreshes_get_one_successor(
    stores: Stores, opens: OpensStores, tmp_path: Path, clock: FakeClock
) -> None:
    """Fifty at once, from two processes, with one token."""
    await log_in(stores, clock)

    async with opens(tmp_path, clock) as others:
        racing = [refresh((stores, others)[racer % 2], clock, "token 1", "token 2") for racer in range(RACERS)]
        found = await asyncio.gather(*racing)

    assert None not in found
    assert len(set(found)) == 1
    clock.advance(10)
    assert await refresh(stores, clock, "token 2", "token 3") is not None


async def test_a_login_ends_when_it_is_ended_and_when_its_time_is_over(stores: Stores, clock: FakeClock) -> None:
    """From that moment on its refresh token is void, and it has no user."""
    await log_in(stores, clock)
    await log_in(stores, clock, "token 2", "login_2")

    await stores.accounts.end_login("login_1")
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None
    assert await refresh(stores, clock, "token 1", "token x") is None

    clock.advance(30 * DAY_S)
    assert await stores.accounts.get_authenticated_user("ben", "login_2") is None
    assert await refresh(stores, clock, "token 2", "token x") is None


async def test_a_new_password_ends_every_login(stores: Stores, clock: FakeClock) -> None:
    """Whoever knew the old one is out."""
    await log_in(stores, clock)
    await log_in(stores, clock, "token 2", "login_2")

    await stores.accounts.reset_password("ben", "new hash")

    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None
    assert await refresh(stores, clock, "token 2", "token 3") is None
