"""What every store of accounts and credits promises, whatever it is kept in.

A new implementation adds one line to `STORES` and passes unchanged: nothing here knows of tables, keys or files.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.models.credits import Allocation, Balance, Charge, CreditEntry, CreditEntryKind
from openapi_server.models.errors import InsufficientCredits, InvalidInput, UserNotFound
from openapi_server.models.user import AuthenticatedUser, Login, Role, User
from openapi_server.protocols import AccountStore, Clock, CreditStore
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.store import SqliteStore
from tests.support.examples import NOON
from tests.support.fakes import FakeClock

RACERS = 50
DAY_S = 86_400
MIA = User("mia", Role.PARENT, "hash of mia's", NOON)
BEN = User("ben", Role.USER, "hash of ben's", NOON, parent="mia", is_demo=True)


@dataclass(frozen=True)
class Stores:
    """The two protocols over one place."""

    accounts: AccountStore
    credits: CreditStore


OpensStores = Callable[[Path, Clock], AbstractAsyncContextManager[Stores]]


@asynccontextmanager
async def sqlite_stores(folder: Path, clock: Clock) -> AsyncIterator[Stores]:
    store = await SqliteStore.open(folder / "zoo.sqlite3", clock)
    try:
        yield Stores(SqliteAccounts(store.connections, clock), SqliteCredits(store.connections, clock))
    finally:
        await store.close()


STORES: dict[str, OpensStores] = {"sqlite": sqlite_stores}
every_store = pytest.mark.parametrize("opens", list(STORES.values()), ids=list(STORES))


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def opens(request: pytest.FixtureRequest) -> OpensStores:
    """How to open each implementation; two that are opened over one folder are two processes of one zoo."""
    opener: OpensStores = request.param
    return opener


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def stores(opens: OpensStores, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stores]:
    """A store of each implementation in which Mia and her son Ben have accounts."""
    async with opens(tmp_path, clock) as opened:
        assert await opened.accounts.create_user(MIA)
        assert await opened.accounts.create_user(BEN)
        yield opened


def a_login(clock: Clock, login_id: str = "login_1", username: str = "ben") -> Login:
    return Login(login_id, username, clock.now(), clock.now() + timedelta(days=30))


async def log_in(stores: Stores, clock: Clock, first: str = "token 1", login_id: str = "login_1") -> Login:
    login = a_login(clock, login_id)
    assert await stores.accounts.create_login(login, first, BEN.password_hash)
    return login


async def give(stores: Stores, clock: Clock, credits: int, days: int | None = None) -> CreditEntry:
    expires_at = clock.now() + timedelta(days=days) if days else None
    return await stores.credits.allocate_credits(Allocation("ben", credits, clock.now(), expires_at))


async def spendable(stores: Stores, username: str = "ben") -> int:
    balance = await stores.credits.get_balance(username)
    assert balance is not None
    return balance.credits


async def history(stores: Stores) -> list[CreditEntry]:
    """Ben's whole ledger, oldest entry first."""
    found: list[CreditEntry] = []
    cursor = None
    while True:
        page = await stores.credits.list_entries("ben", 3, cursor)
        found += page.items
        if page.next_cursor is None:
            return found[::-1]
        cursor = page.next_cursor


async def story(stores: Stores) -> list[tuple[str, int]]:
    return [(entry.kind.value, entry.credits) for entry in await history(stores)]


# People


async def test_an_account_comes_back_as_it_was(stores: Stores) -> None:
    """Every field; and a name that is not there is None."""
    assert await stores.accounts.get_user("ben") == BEN
    assert list(await stores.accounts.list_users()) == [BEN, MIA]
    assert await stores.accounts.get_user("nobody") is None


async def test_a_name_is_given_once(stores: Stores) -> None:
    """Whoever comes second changes nothing."""
    assert not await stores.accounts.create_user(User("ben", Role.ADMINISTRATOR, "other", NOON))
    assert await stores.accounts.get_user("ben") == BEN


async def test_a_new_role_and_a_new_password_are_kept(stores: Stores) -> None:
    """A demo account is none any more once its password is not the one that everybody knows."""
    assert await stores.accounts.set_role("ben", Role.ZOOKEEPER)
    assert await stores.accounts.reset_password("ben", "new hash")

    assert await stores.accounts.get_user("ben") == replace(
        BEN, role=Role.ZOOKEEPER, password_hash="new hash", is_demo=False
    )
    assert not await stores.accounts.set_role("nobody", Role.USER)
    assert not await stores.accounts.reset_password("nobody", "hash")


async def test_a_rehash_never_brings_an_old_password_back(stores: Stores) -> None:
    """It counts only for the hash that it was made from."""
    await stores.accounts.rehash_password("ben", BEN.password_hash, "stronger")
    assert await stores.accounts.get_user("ben") == replace(BEN, password_hash="stronger")

    await stores.accounts.rehash_password("ben", BEN.password_hash, "late")
    assert await stores.accounts.get_user("ben") == replace(BEN, password_hash="stronger")


# Logins


async def test_a_login_says_who_somebody_is_now(stores: Stores, clock: FakeClock) -> None:
    """The role and the children are the store's, whatever they were at the login."""
    await log_in(stores, clock)
    assert await stores.accounts.create_login(a_login(clock, "login_m", "mia"), "token m", MIA.password_hash)

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


async def test_a_login_is_nobody_elses(stores: Stores, clock: FakeClock) -> None:
    """Name and login belong together; what is not there is None."""
    await log_in(stores, clock)

    assert await stores.accounts.get_authenticated_user("mia", "login_1") is None
    assert await stores.accounts.get_authenticated_user("ben", "login_2") is None


async def test_a_login_needs_the_password_that_is_still_good(stores: Stores, clock: FakeClock) -> None:
    """It may have been changed while the old one was being checked."""
    await stores.accounts.reset_password("ben", "new hash")

    assert not await stores.accounts.create_login(a_login(clock), "token", BEN.password_hash)
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None


async def test_a_refresh_replaces_the_token_and_lets_the_login_last(stores: Stores, clock: FakeClock) -> None:
    """The same login, with a new end."""
    login = await log_in(stores, clock)
    clock.advance(29 * DAY_S)
    until = clock.now() + timedelta(days=30)

    assert await stores.accounts.refresh_login("token 1", "token 2", until) == replace(login, expires_at=until)
    clock.advance(29 * DAY_S)
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is not None
    assert await stores.accounts.refresh_login("token 2", "token 3", until) is not None


async def test_a_refresh_token_that_comes_twice_ends_the_login(stores: Stores, clock: FakeClock) -> None:
    """One of the two who had it stole it: neither keeps what came of it. Other logins stay."""
    await log_in(stores, clock)
    await log_in(stores, clock, "other token", "login_2")
    until = clock.now() + timedelta(days=30)
    assert await stores.accounts.refresh_login("token 1", "token 2", until) is not None

    assert await stores.accounts.refresh_login("token 1", "token x", until) is None

    assert await stores.accounts.refresh_login("token 2", "token 3", until) is None
    assert await stores.accounts.refresh_login("token x", "token y", until) is None
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None
    assert await stores.accounts.get_authenticated_user("ben", "login_2") is not None


async def test_of_racing_refreshes_one_wins(
    stores: Stores, opens: OpensStores, tmp_path: Path, clock: FakeClock
) -> None:
    """Fifty at once, from two processes, with one token."""
    await log_in(stores, clock)
    until = clock.now() + timedelta(days=30)

    async with opens(tmp_path, clock) as others:
        racing = [
            (stores, others)[racer % 2].accounts.refresh_login("token 1", f"next {racer}", until)
            for racer in range(RACERS)
        ]
        won = [login for login in await asyncio.gather(*racing) if login is not None]

    assert len(won) == 1


async def test_a_login_ends_when_it_is_ended_and_when_its_time_is_over(stores: Stores, clock: FakeClock) -> None:
    """From then on neither its refresh token nor its person is there; at the edge, too."""
    await log_in(stores, clock)
    await log_in(stores, clock, "token 2", "login_2")
    until = clock.now() + timedelta(days=60)

    await stores.accounts.end_login("login_1")
    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None
    assert await stores.accounts.refresh_login("token 1", "token x", until) is None

    clock.advance(30 * DAY_S)
    assert await stores.accounts.get_authenticated_user("ben", "login_2") is None
    assert await stores.accounts.refresh_login("token 2", "token x", until) is None


async def test_a_new_password_ends_every_login(stores: Stores, clock: FakeClock) -> None:
    """Whoever knew the old one is out."""
    await log_in(stores, clock)
    await log_in(stores, clock, "token 2", "login_2")

    await stores.accounts.reset_password("ben", "new hash")

    assert await stores.accounts.get_authenticated_user("ben", "login_1") is None
    assert await stores.accounts.refresh_login("token 2", "token 3", clock.now() + timedelta(days=1)) is None


# Credits


async def test_credits_are_somebodys(stores: Stores, clock: FakeClock) -> None:
    """Nobody gets them who is not there."""
    with pytest.raises(UserNotFound):
        await stores.credits.allocate_credits(Allocation("nobody", 5, clock.now()))

    assert await stores.credits.get_balance("nobody") is None
    assert await stores.credits.get_balance("mia") == Balance("mia", 0)


async def test_an_allocation_stands_in_the_ledger(stores: Stores, clock: FakeClock) -> None:
    """With its notes, and the time."""
    until = clock.now() + timedelta(days=2)
    entry = await stores.credits.allocate_credits(Allocation("ben", 5000, clock.now(), until, "open day 🦁"))

    kept = CreditEntry(entry.entry_id, "ben", CreditEntryKind.ALLOCATE, 5000, clock.now(), None, "open day 🦁")
    assert [entry] == [kept] == await history(stores)
    assert await stores.credits.get_balance("ben") == Balance("ben", 5000, until)


async def test_a_turn_holds_back_what_it_may_cost_and_returns_the_rest(stores: Stores, clock: FakeClock) -> None:
    """Settling is final: once more changes nothing."""
    await give(stores, clock, 100)

    await stores.credits.reserve(Charge("ben", 60), "turn_1")
    assert await spendable(stores) == 40
    await stores.credits.finish("turn_1", 25)
    await stores.credits.finish("turn_1", 25)

    assert await spendable(stores) == 75
    assert await story(stores) == [("allocate", 100), ("reserve", -60), ("settle", 35)]
    assert {entry.turn_id for entry in (await history(stores))[1:]} == {"turn_1"}


async def test_a_turn_that_used_nothing_is_refunded(stores: Stores, clock: FakeClock) -> None:
    """To the last credit."""
    await give(stores, clock, 100)
    await stores.credits.reserve(Charge("ben", 60), "turn_1")

    await stores.credits.finish("turn_1", 0)

    assert await story(stores) == [("allocate", 100), ("reserve", -60), ("refund", 60)]


async def test_a_turn_never_costs_more_than_it_held_back(stores: Stores, clock: FakeClock) -> None:
    """Nor less than nothing."""
    await give(stores, clock, 100)
    await stores.credits.reserve(Charge("ben", 30), "turn_1")
    await stores.credits.reserve(Charge("ben", 30), "turn_2")

    await stores.credits.finish("turn_1", 10**12)
    await stores.credits.finish("turn_2", -5)

    assert await spendable(stores) == 70


async def test_a_turn_may_begin_with_what_is_left(stores: Stores, clock: FakeClock) -> None:
    """The last credit is good for a turn, and with none there is none; nothing is held back then."""
    await give(stores, clock, 1)

    await stores.credits.reserve(Charge("ben", 60), "turn_1")
    with pytest.raises(InsufficientCredits):
        await stores.credits.reserve(Charge("ben", 1), "turn_2")

    assert await story(stores) == [("allocate", 1), ("reserve", -1)]


async def test_what_nobody_reserved_cannot_be_finished(stores: Stores, clock: FakeClock) -> None:
    """A turn without a charge, or of another zoo."""
    await give(stores, clock, 10)

    await stores.credits.finish("turn_of_nobody", 5)

    assert await story(stores) == [("allocate", 10)]


async def test_what_is_lost_soonest_is_spent_first(stores: Stores, clock: FakeClock) -> None:
    """Whatever the order in which it was given; and what is given back lasts as long as it would have."""
    await give(stores, clock, 10)
    await give(stores, clock, 10, days=2)
    await give(stores, clock, 10, days=1)
    await stores.credits.reserve(Charge("ben", 15), "turn_1")
    await stores.credits.finish("turn_1", 12)

    assert await spendable(stores) == 18
    clock.advance(DAY_S)
    assert await spendable(stores) == 18
    clock.advance(DAY_S)
    assert await spendable(stores) == 10


async def test_credits_are_lost_at_the_edge_and_the_ledger_says_so(stores: Stores, clock: FakeClock) -> None:
    """They cannot be spent from then on; the entry comes with the next change."""
    await give(stores, clock, 10, days=1)
    clock.advance(DAY_S)

    assert await stores.credits.get_balance("ben") == Balance("ben", 0)
    with pytest.raises(InsufficientCredits):
        await stores.credits.reserve(Charge("ben", 1), "turn_1")
    await give(stores, clock, 5)
    assert await story(stores) == [("allocate", 10), ("expire", -10), ("allocate", 5)]


async def test_what_is_over_is_lost_before_the_rest_is_spent(stores: Stores, clock: FakeClock) -> None:
    """A turn takes from what is still good, and the ledger tells it in that order."""
    await give(stores, clock, 10, days=1)
    await give(stores, clock, 5)
    clock.advance(DAY_S)

    await stores.credits.reserve(Charge("ben", 8), "turn_1")

    assert await story(stores) == [("allocate", 10), ("allocate", 5), ("expire", -10), ("reserve", -5)]


async def test_what_is_given_back_too_late_is_lost(stores: Stores, clock: FakeClock) -> None:
    """The turn was refunded, and then the time of the credits was over."""
    await give(stores, clock, 10, days=1)
    await stores.credits.reserve(Charge("ben", 10), "turn_1")
    clock.advance(DAY_S)

    await stores.credits.finish("turn_1", 4)

    assert await spendable(stores) == 0
    assert await story(stores) == [("allocate", 10), ("reserve", -10), ("settle", 6), ("expire", -6)]


async def test_the_balance_names_the_next_loss(stores: Stores, clock: FakeClock) -> None:
    """The soonest of what is left; none when it stays for good."""
    await give(stores, clock, 10)
    assert await stores.credits.get_balance("ben") == Balance("ben", 10)

    await give(stores, clock, 5, days=9)
    await give(stores, clock, 5, days=3)
    assert await stores.credits.get_balance("ben") == Balance("ben", 20, clock.now() + timedelta(days=3))


async def test_the_ledger_is_read_page_by_page_latest_first(stores: Stores, clock: FakeClock) -> None:
    """And takes only its own cursors."""
    for credits in range(1, 8):
        await give(stores, clock, credits)

    assert [credits for _, credits in await story(stores)] == list(range(1, 8))
    assert (await stores.credits.list_entries("mia", 3)).items == ()
    with pytest.raises(InvalidInput):
        await stores.credits.list_entries("ben", 3, "not one of ours")


async def test_racing_turns_never_spend_a_credit_twice(
    stores: Stores, opens: OpensStores, tmp_path: Path, clock: FakeClock
) -> None:
    """Two hundred turns of two processes want three credits each of a hundred: 34 begin, and the ledger adds up."""
    await give(stores, clock, 60)
    await give(stores, clock, 40, days=5)

    async with opens(tmp_path, clock) as others:
        racing = [(stores, others)[turn % 2].credits.reserve(Charge("ben", 3), f"turn_{turn}") for turn in range(200)]
        ended = await asyncio.gather(*racing, return_exceptions=True)
        begun = [turn for turn, outcome in enumerate(ended) if outcome is None]
        assert all(isinstance(outcome, InsufficientCredits) for outcome in ended if outcome is not None)
        assert len(begun) == 34
        assert await spendable(stores) == 0
        # Each is settled by both processes at once, as after a crash that was none.
        both = [side.credits.finish(f"turn_{turn}", 1) for turn in begun for side in (stores, others)]
        await asyncio.gather(*both)

    assert await spendable(stores) == 66
    assert sum(credits for _, credits in await story(stores)) == 66


@dataclass(frozen=True)
class Allocates:
    credits: int
    days: int | None


@dataclass(frozen=True)
class Reserves:
    at_most: int


@dataclass(frozen=True)
class Finishes:
    turn: int
    used: int


@dataclass(frozen=True)
class Waits:
    days: float


Action = Allocates | Reserves | Finishes | Waits
actions = st.one_of(
    st.builds(Allocates, st.integers(1, 10**9), st.none() | st.integers(1, 4)),
    st.builds(Reserves, st.integers(1, 2 * 10**9)),
    st.builds(Finishes, st.integers(0, 6), st.integers(-5, 2 * 10**9)),
    st.builds(Waits, st.floats(0, 3)),
)


@every_store
@settings(max_examples=60, deadline=None)
@given(played=st.lists(actions, max_size=25))
def test_whatever_happens_the_ledger_adds_up(opens: OpensStores, played: Sequence[Action]) -> None:
    """After every step the entries sum to the balance (what has expired counted as lost), and nothing is below zero."""

    async def play() -> None:
        clock = FakeClock()
        with tempfile.TemporaryDirectory() as folder:
            async with opens(Path(folder), clock) as stores:
                await stores.accounts.create_user(MIA)
                await stores.accounts.create_user(BEN)
                for number, action in enumerate(played):
                    await _act(stores, clock, action, number)
                    # An entry for what has expired comes with the next change: giving one credit is such a change.
                    assert await spendable(stores) >= 0
                await give(stores, clock, 1)
                entries = await history(stores)
                totals = [sum(entry.credits for entry in entries[:end]) for end in range(len(entries) + 1)]
                assert min(totals) >= 0
                assert totals[-1] == await spendable(stores)

    asyncio.run(play())


async def _act(stores: Stores, clock: FakeClock, action: Action, number: int) -> None:
    before = await spendable(stores)
    match action:
        case Allocates(credits, days):
            await give(stores, clock, credits, days)
            assert await spendable(stores) == before + credits
        case Reserves(at_most):
            try:
                await stores.credits.reserve(Charge("ben", at_most), f"turn_{number}")
            except InsufficientCredits:
                assert before == 0
            else:
                assert await spendable(stores) == before - min(before, at_most)
        case Finishes(turn, used):
            await stores.credits.finish(f"turn_{turn}", used)
            assert await spendable(stores) >= before
        case Waits(days):
            clock.advance(days * DAY_S)
