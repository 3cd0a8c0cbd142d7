"""What every backend promises of turns that cost credits: the charge begins and ends with the turn, in one step.

Nothing here knows of tables, keys or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest

from openapi_server.models.credits import Allocation, Charge, CreditEntry
from openapi_server.models.errors import ChatError, InsufficientCredits, KeyReused, SessionNotFound, TurnRunning
from openapi_server.models.personal_data import DataSubject
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import IdempotencyKey, Lease, Outcome, TurnRecord
from openapi_server.models.user import Role, User
from openapi_server.protocols import AccountStore, Clock, CreditStore, Store
from openapi_server.storage.factory import Stores
from tests.support.examples import NOON, SESSION_ID, TURN_ID, make_failure, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock
from tests.support.stores import BACKENDS, OpensStores, list_device_users

OTHER_ID = "sess_of_somebody_else"
RACERS = 50
TTL_S = 3600
CHARGE = Charge("ben", 60)
RESERVED = [("allocate", 100), ("reserve", -60)]
REFUNDED = [*RESERVED, ("refund", 60)]


@dataclass(frozen=True)
class Bank:
    """The stores of sessions, accounts and credits over one database."""

    stores: Stores

    @property
    def store(self) -> Store:
        return self.stores.sessions

    @property
    def accounts(self) -> AccountStore:
        return self.stores.accounts

    @property
    def credits(self) -> CreditStore:
        return self.stores.credits

    async def get_balance(self) -> int:
        balance = await self.credits.get_balance("ben")
        assert balance is not None
        return balance.credits

    async def list_entries(self) -> list[CreditEntry]:
        """Ben's, oldest entry first."""
        page = await self.credits.list_entries("ben", 1000)
        assert page.next_cursor is None
        return list(page.items)[::-1]

    async def list_changes(self) -> list[tuple[str, int]]:
        return [(entry.kind.value, entry.credits) for entry in await self.list_entries()]


OpensBank = Callable[[Path, Clock], AbstractAsyncContextManager[Bank]]


@asynccontextmanager
async def open_bank(opens: OpensStores, folder: Path, clock: Clock) -> AsyncIterator[Bank]:
    async with opens(folder, clock) as stores:
        yield Bank(stores)


@pytest.fixture(params=list(BACKENDS.values()), ids=list(BACKENDS))
def opens(request: pytest.FixtureRequest) -> OpensBank:
    """How to open each implementation; two that are opened over one folder are two processes of one zoo."""
    return partial(open_bank, request.param)


@pytest.fixture
async def bank(opens: OpensBank, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Bank]:
    """A bank of each implementation, in which Ben has a hundred credits."""
    async with opens(tmp_path, clock) as opened:
        assert await opened.accounts.create_user(User("ben", Role.USER, "hash of ben's", NOON))
        await opened.credits.allocate_credits(Allocation("ben", 100, clock.now()))
        yield opened


def make_paid_outcome(credits: int) -> Outcome:
    return replace(make_outcome(), credits_used=credits)


def make_key(body: str = "body-1") -> IdempotencyKey:
    return IdempotencyKey("key-1", body, NOON + timedelta(days=1))


def make_short_session(at: datetime) -> SessionRecord:
    return replace(make_session(at=at), ttl_s=TTL_S)


# A turn that ends


@pytest.mark.parametrize(
    ("outcome", "kind", "back"),
    [
        (make_paid_outcome(25), "settle", 35),
        (make_paid_outcome(60), "settle", 0),
        (make_paid_outcome(10**9), "settle", 0),
        (make_paid_outcome(0), "refund", 60),
        (make_failure(), "refund", 60),
        (replace(make_failure(partial_reply="Ro"), credits_used=3), "settle", 57),
    ],
    ids=["answered", "used all", "used more", "used nothing", "failed", "failed in the middle"],
)
async def test_a_turn_holds_its_charge_and_gives_back_what_it_did_not_use(
    bank: Bank, outcome: Outcome, kind: str, back: int
) -> None:
    """Both with the turn itself: there is no moment at which one is kept without the other."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=CHARGE)
    assert (await bank.list_changes(), await bank.get_balance()) == (RESERVED, 40)

    assert await bank.store.settle_turn(TURN_ID, outcome)
    assert await bank.list_changes() == [*RESERVED, (kind, back)]
    assert await bank.get_balance() == 40 + back
    assert [entry.turn_id for entry in await bank.list_entries()] == [None, TURN_ID, TURN_ID]


async def test_what_a_turn_used_is_kept_with_its_outcome(bank: Bank) -> None:
    """The stored turn says what it cost."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=CHARGE)
    await bank.store.settle_turn(TURN_ID, make_paid_outcome(25))

    assert await bank.store.get_turn(TURN_ID) == make_turn(outcome=make_paid_outcome(25))


async def test_a_turn_is_settled_and_paid_once(bank: Bank) -> None:
    """Fifty settle at once, each with another price: the outcome that is kept names the one that was paid."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=CHARGE)
    settled = await asyncio.gather(*(bank.store.settle_turn(TURN_ID, make_paid_outcome(n)) for n in range(RACERS)))

    (paid,) = [outcome for outcome in settled if outcome is not None]
    assert await bank.get_balance() == 100 - paid.credits_used
    kept = await bank.store.get_turn(TURN_ID)
    assert kept is not None
    assert kept.outcome == paid


async def test_a_turn_may_begin_with_what_is_left(bank: Bank) -> None:
    """It reserves that, and never costs more; the next one is refused."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=Charge("ben", 99))
    await bank.store.begin_turn(make_turn("turn_b", OTHER_ID), make_session(OTHER_ID), charge=CHARGE)
    with pytest.raises(InsufficientCredits):
        await bank.store.begin_turn(make_turn("turn_c", "sess_c"), make_session("sess_c"), charge=Charge("ben", 1))

    await bank.store.settle_turn("turn_b", make_paid_outcome(60))
    assert await bank.list_changes() == [("allocate", 100), ("reserve", -99), ("reserve", -1), ("settle", 0)]


async def test_a_turn_without_a_charge_costs_nothing(bank: Bank) -> None:
    """Whatever it says that it used."""
    await bank.store.begin_turn(make_turn(), make_session())
    settled = await bank.store.settle_turn(TURN_ID, make_paid_outcome(25))

    assert settled is not None
    assert settled.credits_used == 0
    assert await bank.list_changes() == [("allocate", 100)]


@pytest.mark.parametrize(
    ("credits", "tokens", "charged"),
    [(60, 60, 60), (61, 61, 60), (10**9, 10**9, 60), (75, 15, 12), (77, 11, 9), (3600, 1, 1)],
    ids=["all of it", "one more", "far more", "five credits a token", "a part of a token", "one dear token"],
)
async def test_the_tokens_of_a_turn_are_those_that_were_paid(
    bank: Bank, credits: int, tokens: int, charged: int
) -> None:
    """Whoever used more than was reserved is told what was charged: by the turn, the store and the ledger alike."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=CHARGE)
    outcome = replace(make_paid_outcome(credits), tokens_charged=tokens)
    settled = await bank.store.settle_turn(TURN_ID, outcome)

    assert settled == replace(outcome, credits_used=60, tokens_charged=charged)
    assert await bank.store.get_turn(TURN_ID) == make_turn(outcome=settled)
    entry = (await bank.list_entries())[-1]
    assert (entry.tokens, entry.spent) == (charged, 60)


# A turn whose session is deleted while it runs


def make_leased_turn(worker: str = "here/1/aaaa", until: datetime = NOON + timedelta(seconds=30)) -> TurnRecord:
    return replace(make_turn(), worker=worker, lease_until=until)


DELETIONS: dict[str, Callable[[Bank], Awaitable[object]]] = {
    "the session": lambda bank: bank.store.delete_session(SESSION_ID),
    "all personal data": lambda bank: bank.stores.personal_data.erase(DataSubject(session_ids=(SESSION_ID,))),
}


@pytest.fixture(params=list(DELETIONS.values()), ids=list(DELETIONS))
def delete(request: pytest.FixtureRequest) -> Callable[[Bank], Awaitable[object]]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(("used", "entry"), [(25, ("settle", 35)), (0, ("refund", 60)), (90, ("settle", 0))])
async def test_words_that_were_said_before_the_deletion_are_paid(
    bank: Bank, clock: FakeClock, delete: Callable[[Bank], Awaitable[object]], used: int, entry: tuple[str, int]
) -> None:
    """The process that runs the turn says how many, and once. Nothing of the session comes back."""
    turn = make_leased_turn(until=clock.now() + timedelta(seconds=30))
    await bank.store.begin_turn(turn, make_session(owner="user:ben", at=clock.now()), charge=CHARGE)
    await delete(bank)
    assert await bank.list_changes() == RESERVED
    assert await bank.store.list_running_turns() == [Lease(TURN_ID, "here/1/aaaa", turn.lease_until)]  # type: ignore[arg-type]

    assert await bank.store.settle_turn(TURN_ID, make_paid_outcome(used)) is None
    assert await bank.store.settle_turn(TURN_ID, make_paid_outcome(used)) is None
    assert await bank.list_changes() == [*RESERVED, entry]
    assert await bank.store.list_running_turns() == []
    assert await bank.store.get_turn(TURN_ID) is None
    assert await bank.store.get_session(SESSION_ID) is None


async def test_after_an_erasure_the_ledger_does_not_name_the_turn(bank: Bank, clock: FakeClock) -> None:
    """Neither its reservation nor what is settled later; after the deletion of a session it names it in both."""
    for delete, name in zip(DELETIONS.values(), (TURN_ID, None), strict=True):
        turn = make_leased_turn(until=clock.now() + timedelta(seconds=30))
        await bank.store.begin_turn(turn, make_session(owner="user:ben", at=clock.now()), charge=CHARGE)
        await delete(bank)
        await bank.store.settle_turn(TURN_ID, make_paid_outcome(1))
        assert [entry.turn_id for entry in (await bank.list_entries())[-2:]] == [name, name]


async def test_an_account_that_is_deleted_while_its_turn_runs_leaves_no_reservation(
    bank: Bank, clock: FakeClock
) -> None:
    turn = make_leased_turn(until=clock.now() + timedelta(seconds=30))
    await bank.store.begin_turn(turn, make_session(owner="user:ben", at=clock.now()), charge=CHARGE)
    await bank.stores.personal_data.erase(DataSubject(owner="user:ben"), with_account=True)

    assert await bank.store.list_running_turns() == []
    assert await bank.store.settle_turn(TURN_ID, make_paid_outcome(25)) is None


# A turn that never ends


async def test_a_deleted_session_gives_back_what_an_orphaned_turn_held(bank: Bank) -> None:
    """All of it, and once: no process is left that knows what was said."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=CHARGE)
    await bank.store.delete_session(SESSION_ID)

    assert await bank.store.settle_turn(TURN_ID, make_paid_outcome(25)) is None
    assert await bank.store.delete_session(SESSION_ID) is None
    assert await bank.list_changes() == REFUNDED


async def test_a_deleted_session_keeps_what_was_paid_for(bank: Bank) -> None:
    """The credits stay spent; only the ledger still names the turn."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=CHARGE)
    await bank.store.settle_turn(TURN_ID, make_paid_outcome(25))
    await bank.store.delete_session(SESSION_ID)

    assert await bank.list_changes() == [*RESERVED, ("settle", 35)]
    assert (await bank.list_entries())[-1].turn_id == TURN_ID


async def test_an_expired_session_gives_back_what_running_turns_held(bank: Bank, clock: FakeClock) -> None:
    """Their process has died, and nobody has used the session since."""
    await bank.store.begin_turn(make_turn(at=clock.now()), make_short_session(clock.now()), charge=CHARGE)
    clock.advance(TTL_S)

    assert await bank.store.delete_expired_sessions(10) == 1
    assert await bank.list_changes() == REFUNDED


async def test_a_session_that_makes_room_gives_back_what_its_running_turn_held(bank: Bank, clock: FakeClock) -> None:
    """Before the new turn is charged: the same credits are good for it."""
    charge = Charge("ben", 100)
    await bank.store.begin_turn(make_turn(at=clock.now()), make_short_session(clock.now()), charge=charge)
    clock.advance(TTL_S)
    await bank.store.begin_turn(make_turn("turn_b", at=clock.now()), make_short_session(clock.now()), charge=charge)

    assert await bank.list_changes() == [("allocate", 100), ("reserve", -100), ("refund", 100), ("reserve", -100)]


# A turn that is refused, or begun already


@pytest.mark.parametrize("has_ended", [False, True], ids=["while it runs", "after its end"])
async def test_the_same_request_again_is_charged_once(bank: Bank, has_ended: bool) -> None:
    """It is the same turn, also for a caller who could not pay for another one."""
    assert await bank.store.begin_turn(make_turn(), make_session(), [make_key()], Charge("ben", 100)) == TURN_ID
    if has_ended:
        await bank.store.settle_turn(TURN_ID, make_paid_outcome(100))
    before = await bank.list_changes()

    again = make_turn("turn_again", OTHER_ID)
    assert await bank.store.begin_turn(again, make_session(OTHER_ID), [make_key()], CHARGE) == TURN_ID
    assert await bank.list_changes() == before


async def test_fifty_requests_with_one_key_are_charged_once(bank: Bank) -> None:
    """Whichever of them was first."""
    beginnings = [
        bank.store.begin_turn(make_turn(f"turn_{n}", f"sess_{n}"), make_session(f"sess_{n}"), [make_key()], CHARGE)
        for n in range(RACERS)
    ]

    (turn_id,) = set(await asyncio.gather(*beginnings))
    assert await bank.list_changes() == RESERVED
    assert (await bank.list_entries())[-1].turn_id == turn_id


async def test_a_refused_turn_charges_nothing(bank: Bank) -> None:
    """The session is busy or gone, or the key was for something else: the caller keeps the credits."""
    store = bank.store
    await store.begin_turn(make_turn(), make_session(), [make_key()])
    refusals: list[tuple[type[ChatError], str, list[IdempotencyKey]]] = [
        (TurnRunning, SESSION_ID, []),
        (SessionNotFound, OTHER_ID, []),
        (KeyReused, SESSION_ID, [make_key("body-2")]),
    ]
    for error, session_id, keys in refusals:
        with pytest.raises(error):
            await store.begin_turn(make_turn("turn_refused", session_id), None, keys, CHARGE)

    assert await bank.list_changes() == [("allocate", 100)]
    assert await bank.get_balance() == 100


async def test_who_cannot_pay_leaves_no_trace(bank: Bank) -> None:
    """No session, no turn, no device's user, and the key is good for the same request once there are credits."""
    await bank.store.begin_turn(make_turn("turn_before", OTHER_ID), make_session(OTHER_ID), charge=Charge("ben", 100))
    session = replace(make_session(), handle="chat_kiosk-7")
    with pytest.raises(InsufficientCredits):
        await bank.store.begin_turn(make_turn(), session, [make_key()], CHARGE)

    assert await bank.store.get_session(SESSION_ID) is None
    assert await bank.store.get_turn(TURN_ID) is None
    assert await list_device_users(bank.stores, "chat_kiosk-7", SESSION_ID) == ()
    assert [lease.turn_id for lease in await bank.store.list_running_turns()] == ["turn_before"]
    await bank.store.settle_turn("turn_before", make_paid_outcome(0))
    assert await bank.store.begin_turn(make_turn("turn_b"), session, [make_key("body-2")], CHARGE) == "turn_b"


async def test_who_cannot_pay_leaves_a_session_as_it_was(bank: Bank) -> None:
    """Its count, its animal and its time are those of the turns that there were."""
    await bank.store.begin_turn(make_turn(), make_session(), charge=Charge("ben", 100))
    await bank.store.settle_turn(TURN_ID, make_paid_outcome(100))
    before = await bank.store.get_session(SESSION_ID)
    other_animal = replace(make_turn("turn_b", at=NOON + timedelta(minutes=1)), animal_id="tiger_001")
    with pytest.raises(InsufficientCredits):
        await bank.store.begin_turn(other_animal, None, [], CHARGE)

    assert await bank.store.get_session(SESSION_ID) == before


async def test_whoever_has_no_account_cannot_pay(bank: Bank) -> None:
    """It may have been deleted a moment ago."""
    with pytest.raises(InsufficientCredits):
        await bank.store.begin_turn(make_turn(), make_session(), charge=Charge("nobody", 1))


# Races


async def test_of_two_hundred_turns_no_credit_is_spent_twice(
    bank: Bank, opens: OpensBank, tmp_path: Path, clock: FakeClock
) -> None:
    """Two processes, three credits a turn, a hundred in all: 34 begin, and the ledger adds up at every entry."""
    async with opens(tmp_path, clock) as other:
        sides = (bank, other)
        names = [f"turn_{n}" for n in range(200)]
        charge = Charge("ben", 3)
        racing = [
            sides[n % 2].store.begin_turn(make_turn(name, f"sess_{n}"), make_session(f"sess_{n}"), charge=charge)
            for n, name in enumerate(names)
        ]
        begun = [turn_id for turn_id in await asyncio.gather(*racing, return_exceptions=True) if turn_id in names]
        assert len(begun) == 34
        assert await bank.get_balance() == 0
        assert len((await bank.store.list_sessions("cookie:mia", 200)).items) == 34
        # Both processes settle each of them, as after a crash that was none.
        await asyncio.gather(
            *(side.store.settle_turn(str(name), make_paid_outcome(1)) for name in begun for side in sides)
        )

    totals = list(accumulate(credits for _, credits in await bank.list_changes()))
    assert min(totals) == 0
    assert totals[-1] == await bank.get_balance() == 66


async def test_a_session_that_is_deleted_while_its_turn_is_settled_gives_back_once(bank: Bank) -> None:
    """Whoever comes first decides what it cost; the other one changes nothing."""
    for n in range(20):
        await bank.store.begin_turn(make_turn(f"turn_{n}"), make_session(), charge=CHARGE)
        before = await bank.get_balance()
        is_settled, _ = await asyncio.gather(
            bank.store.settle_turn(f"turn_{n}", make_paid_outcome(1)), bank.store.delete_session(SESSION_ID)
        )
        assert await bank.get_balance() == before + 60 - (is_settled is not None)

    assert sum(credits for _, credits in await bank.list_changes()) == await bank.get_balance()
