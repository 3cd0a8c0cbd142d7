"""What every `CreditStore` promises, whatever the backend: nothing here knows of tables, keys or files.

Credits are reserved and refunded with turns: `reserve` and `finish` here are turns that start and end.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.models.credits import Allocation, Balance, Charge, CreditEntry, CreditEntryKind, DailyUsage
from openapi_server.models.errors import InsufficientCredits, InvalidInput, UserNotFound
from openapi_server.models.user import Role, User
from openapi_server.protocols import Clock
from openapi_server.storage.factory import Stores
from tests.support.examples import NOON, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock
from tests.support.stores import BACKENDS, OpensStores

DAY_S = 86_400
MIA = User("mia", Role.PARENT, "hash of mia's", NOON)
BEN = User("ben", Role.USER, "hash of ben's", NOON, parent="mia", is_demo=True)
every_backend = pytest.mark.parametrize("opens", list(BACKENDS.values()), ids=list(BACKENDS))


@pytest.fixture
async def stores(opens: OpensStores, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stores]:
    """The stores of each implementation, in which Mia and her son Ben have accounts."""
    async with opens(tmp_path, clock) as opened:
        assert await opened.accounts.create_user(MIA)
        assert await opened.accounts.create_user(BEN)
        yield opened


async def reserve(stores: Stores, clock: Clock, max_credits: int, turn_id: str) -> None:
    """Start a turn of Ben's, in a session of its own, that may cost so much."""
    session_id, now = f"sess_{turn_id}", clock.now()
    session, turn = make_session(session_id, at=now), make_turn(turn_id, session_id, at=now)
    assert await stores.sessions.begin_turn(turn, session, charge=Charge("ben", max_credits)) == turn_id


async def finish(stores: Stores, clock: Clock, turn_id: str, used: int, tokens: int | None = None) -> None:
    """End the turn, if it runs, with so many credits used, for so many tokens."""
    outcome = replace(make_outcome(at=clock.now()), credits_used=used, tokens_charged=tokens)
    await stores.sessions.settle_turn(turn_id, outcome)


async def allocate(stores: Stores, clock: Clock, credits: int, days: int | None = None) -> CreditEntry:
    expires_at = clock.now() + timedelta(days=days) if days else None
    return await stores.credits.allocate_credits(Allocation("ben", credits, clock.now(), expires_at))


async def get_spendable(stores: Stores, username: str = "ben") -> int:
    balance = await stores.credits.get_balance(username)
    assert balance is not None
    return balance.credits


async def list_entries(stores: Stores) -> list[CreditEntry]:
    """Ben's entries, oldest first."""
    found: list[CreditEntry] = []
    cursor = None
    while True:
        page = await stores.credits.list_entries("ben", 3, cursor)
        found += page.items
        if page.next_cursor is None:
            return found[::-1]
        cursor = page.next_cursor


async def list_changes(stores: Stores) -> list[tuple[str, int]]:
    return [(entry.kind.value, entry.credits) for entry in await list_entries(stores)]


async def spend(stores: Stores, clock: Clock, turn_id: str, used: int, tokens: int | None) -> None:
    """A whole turn of Ben's that may cost 50 credits."""
    await reserve(stores, clock, 50, turn_id)
    await finish(stores, clock, turn_id, used, tokens)


async def test_usage_is_told_by_the_day_on_which_a_turn_ended(stores: Stores, clock: FakeClock) -> None:
    """In UTC, to the last microsecond; what cost nothing is not counted, nor what still runs, nor what was not paid."""
    await allocate(stores, clock, 500)
    await spend(stores, clock, "turn_1", 30, 10)
    await spend(stores, clock, "turn_2", 6, 2)
    await spend(stores, clock, "turn_3", 0, 0)
    await reserve(stores, clock, 50, "turn_4")
    today = clock.now().date()
    midnight = datetime.combine(today + timedelta(days=1), time(), UTC)
    clock.advance((midnight - clock.now()).total_seconds() - 0.000_001)
    await spend(stores, clock, "turn_5", 7, 7)
    clock.advance(0.000_001)
    await finish(stores, clock, "turn_4", 80, 80)

    first, second = DailyUsage(today, 3, 19, 43), DailyUsage(today + timedelta(days=1), 1, 50, 50)
    assert await stores.credits.list_daily_usage("ben", today, today) == [first]
    assert await stores.credits.list_daily_usage("ben", second.day, second.day) == [second]
    assert await stores.credits.list_daily_usage("ben", today, second.day) == [first, second]
    assert await stores.credits.list_daily_usage("ben", date.min, date.max) == [first, second]
    assert await stores.credits.list_daily_usage("ben", date.min, today - timedelta(days=1)) == []
    assert await stores.credits.list_daily_usage("mia", date.min, date.max) == []


async def test_what_was_used_is_what_the_balance_lacks(stores: Stores, clock: FakeClock) -> None:
    """Also of a turn that would have cost more than there was."""
    await allocate(stores, clock, 60)
    await spend(stores, clock, "turn_1", 40, 20)
    await spend(stores, clock, "turn_2", 40, 20)

    (day,) = await stores.credits.list_daily_usage("ben", date.min, date.max)
    assert (day.turns, day.tokens, day.credits) == (2, 30, 60)
    assert await get_spendable(stores) == 0
    assert sum(entry.credits for entry in await list_entries(stores)) == 0
    assert [entry.spent for entry in await list_entries(stores) if entry.kind is CreditEntryKind.SETTLE] == [40, 20]


async def test_credits_need_an_account(stores: Stores, clock: FakeClock) -> None:
    """`UserNotFound` for a name without one."""
    with pytest.raises(UserNotFound):
        await stores.credits.allocate_credits(Allocation("nobody", 5, clock.now()))

    assert await stores.credits.get_balance("nobody") is None
    assert await stores.credits.get_balance("mia") == Balance("mia", 0)


async def test_an_allocation_is_an_entry(stores: Stores, clock: FakeClock) -> None:
    """With its notes, and the time."""
    until = clock.now() + timedelta(days=2)
    entry = await stores.credits.allocate_credits(Allocation("ben", 5000, clock.now(), until, "open day 🦁"))

    kept = CreditEntry(entry.entry_id, "ben", CreditEntryKind.ALLOCATE, 5000, clock.now(), None, "open day 🦁")
    assert [entry] == [kept] == await list_entries(stores)
    assert await stores.credits.get_balance("ben") == Balance("ben", 5000, until)


async def test_a_turn_reserves_what_it_may_cost_and_refunds_the_rest(stores: Stores, clock: FakeClock) -> None:
    """Settling a second time changes nothing."""
    await allocate(stores, clock, 100)

    await reserve(stores, clock, 60, "turn_1")
    assert await get_spendable(stores) == 40
    await finish(stores, clock, "turn_1", 25)
    await finish(stores, clock, "turn_1", 25)

    assert await get_spendable(stores) == 75
    assert await list_changes(stores) == [("allocate", 100), ("reserve", -60), ("settle", 35)]
    assert {entry.turn_id for entry in (await list_entries(stores))[1:]} == {"turn_1"}


async def test_a_turn_that_used_nothing_is_refunded(stores: Stores, clock: FakeClock) -> None:
    """To the last credit."""
    await allocate(stores, clock, 100)
    await reserve(stores, clock, 60, "turn_1")

    await finish(stores, clock, "turn_1", 0)

    assert await list_changes(stores) == [("allocate", 100), ("reserve", -60), ("refund", 60)]


async def test_a_turn_never_costs_more_than_it_has_reserved(stores: Stores, clock: FakeClock) -> None:
    """Nor less than nothing."""
    await allocate(stores, clock, 100)
    await reserve(stores, clock, 30, "turn_1")
    await reserve(stores, clock, 30, "turn_2")

    await finish(stores, clock, "turn_1", 10**12)
    await finish(stores, clock, "turn_2", -5)

    assert await get_spendable(stores) == 70


async def test_a_turn_may_begin_with_what_is_left(stores: Stores, clock: FakeClock) -> None:
    """One credit is enough to start a turn; with none it is refused and nothing is reserved."""
    await allocate(stores, clock, 1)

    await reserve(stores, clock, 60, "turn_1")
    with pytest.raises(InsufficientCredits):
        await reserve(stores, clock, 1, "turn_2")

    assert await list_changes(stores) == [("allocate", 1), ("reserve", -1)]


async def test_a_turn_without_a_reservation_is_not_refunded(stores: Stores, clock: FakeClock) -> None:
    """A turn without a charge, or one that does not exist."""
    await allocate(stores, clock, 10)

    await finish(stores, clock, "turn_of_nobody", 5)

    assert await list_changes(stores) == [("allocate", 10)]


async def test_credits_that_expire_first_are_spent_first(stores: Stores, clock: FakeClock) -> None:
    """Whatever the order in which they were allocated; refunded credits keep their time of expiry."""
    await allocate(stores, clock, 10)
    await allocate(stores, clock, 10, days=2)
    await allocate(stores, clock, 10, days=1)
    await reserve(stores, clock, 15, "turn_1")
    await finish(stores, clock, "turn_1", 12)

    assert await get_spendable(stores) == 18
    clock.advance(DAY_S)
    assert await get_spendable(stores) == 18
    clock.advance(DAY_S)
    assert await get_spendable(stores) == 10


async def test_credits_expire_on_time_with_an_entry(stores: Stores, clock: FakeClock) -> None:
    """They cannot be spent from that moment on; the entry is written with the next change."""
    await allocate(stores, clock, 10, days=1)
    clock.advance(DAY_S)

    assert await stores.credits.get_balance("ben") == Balance("ben", 0)
    with pytest.raises(InsufficientCredits):
        await reserve(stores, clock, 1, "turn_1")
    await allocate(stores, clock, 5)
    assert await list_changes(stores) == [("allocate", 10), ("expire", -10), ("allocate", 5)]


async def test_expired_credits_are_lost_before_others_are_reserved(stores: Stores, clock: FakeClock) -> None:
    """A turn reserves from what is still valid, and the entries have that order."""
    await allocate(stores, clock, 10, days=1)
    await allocate(stores, clock, 5)
    clock.advance(DAY_S)

    await reserve(stores, clock, 8, "turn_1")

    assert await list_changes(stores) == [("allocate", 10), ("allocate", 5), ("expire", -10), ("reserve", -5)]


async def test_credits_that_are_refunded_too_late_expire(stores: Stores, clock: FakeClock) -> None:
    """The turn was refunded after the credits had expired."""
    await allocate(stores, clock, 10, days=1)
    await reserve(stores, clock, 10, "turn_1")
    clock.advance(DAY_S)

    await finish(stores, clock, "turn_1", 4)

    assert await get_spendable(stores) == 0
    assert await list_changes(stores) == [("allocate", 10), ("reserve", -10), ("settle", 6), ("expire", -6)]


async def test_the_balance_says_when_the_next_credits_expire(stores: Stores, clock: FakeClock) -> None:
    """None when all that are left never expire."""
    await allocate(stores, clock, 10)
    assert await stores.credits.get_balance("ben") == Balance("ben", 10)

    await allocate(stores, clock, 5, days=9)
    await allocate(stores, clock, 5, days=3)
    assert await stores.credits.get_balance("ben") == Balance("ben", 20, clock.now() + timedelta(days=3))


async def test_entries_are_listed_page_by_page_latest_first(stores: Stores, clock: FakeClock) -> None:
    """And takes only its own cursors."""
    for credits in range(1, 8):
        await allocate(stores, clock, credits)

    assert [credits for _, credits in await list_changes(stores)] == list(range(1, 8))
    assert (await stores.credits.list_entries("mia", 3)).items == ()
    with pytest.raises(InvalidInput):
        await stores.credits.list_entries("ben", 3, "not one of ours")


async def test_racing_turns_never_spend_a_credit_twice(
    stores: Stores, opens: OpensStores, tmp_path: Path, clock: FakeClock
) -> None:
    """Two hundred turns of two processes want three credits each of a hundred: 34 begin, and the ledger adds up."""
    await allocate(stores, clock, 60)
    await allocate(stores, clock, 40, days=5)

    async with opens(tmp_path, clock) as others:
        racing = [reserve((stores, others)[turn % 2], clock, 3, f"turn_{turn}") for turn in range(200)]
        ended = await asyncio.gather(*racing, return_exceptions=True)
        begun = [turn for turn, outcome in enumerate(ended) if outcome is None]
        assert all(isinstance(outcome, InsufficientCredits) for outcome in ended if outcome is not None)
        assert len(begun) == 34
        assert await get_spendable(stores) == 0
        # Each is settled by both processes at once, as after a crash that was none.
        both = [finish(side, clock, f"turn_{turn}", 1) for turn in begun for side in (stores, others)]
        await asyncio.gather(*both)

    assert await get_spendable(stores) == 66
    assert sum(credits for _, credits in await list_changes(stores)) == 66


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


@every_backend
@settings(max_examples=60, deadline=None)
@given(played=st.lists(actions, max_size=25))
def test_whatever_happens_the_entries_add_up(opens: OpensStores, played: Sequence[Action]) -> None:
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
                    assert await get_spendable(stores) >= 0
                await allocate(stores, clock, 1)
                entries = await list_entries(stores)
                totals = [sum(entry.credits for entry in entries[:end]) for end in range(len(entries) + 1)]
                assert min(totals) >= 0
                assert totals[-1] == await get_spendable(stores)

    asyncio.run(play())


async def _act(stores: Stores, clock: FakeClock, action: Action, number: int) -> None:
    before = await get_spendable(stores)
    match action:
        case Allocates(credits, days):
            await allocate(stores, clock, credits, days)
            assert await get_spendable(stores) == before + credits
        case Reserves(at_most):
            try:
                await reserve(stores, clock, at_most, f"turn_{number}")
            except InsufficientCredits:
                assert before == 0
            else:
                assert await get_spendable(stores) == before - min(before, at_most)
        case Finishes(turn, used):
            await finish(stores, clock, f"turn_{turn}", used)
            assert await get_spendable(stores) >= before
        case Waits(days):
            clock.advance(days * DAY_S)
