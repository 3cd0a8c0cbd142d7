"""What every backend promises of turns that wait for the earlier ones of their session.

Nothing here knows of tables, keys or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from openapi_server.models.credits import Allocation, Charge
from openapi_server.models.errors import InsufficientCredits, TurnNotFound, TurnRunning
from openapi_server.models.turn import IdempotencyKey, TurnRecord, TurnStatus
from openapi_server.models.user import Role, User
from openapi_server.protocols import Store
from openapi_server.storage.factory import Stores
from tests.support.examples import NOON, SESSION_ID, make_failure, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock
from tests.support.stores import OpensStores

RACERS = 50
CHARGE = Charge("ben", 60)


@pytest.fixture
async def stores(opens: OpensStores, tmp_path: Path) -> AsyncIterator[Stores]:
    """Stores of each backend, with one session in which the turn `running` runs."""
    async with opens(tmp_path, FakeClock()) as opened:
        await opened.sessions.create_session(make_session())
        await opened.sessions.begin_turn(make_turn("running"))
        yield opened


@pytest.fixture
def store(stores: Stores) -> Store:
    return stores.sessions


def seconds(count: float) -> datetime:
    return NOON + timedelta(seconds=count)


def make_queued(turn_id: str, *, at: datetime = NOON) -> TurnRecord:
    return replace(make_turn(turn_id, message=f"This is {turn_id}", at=at), is_queued=True)


async def enqueue(store: Store, *turn_ids: str, max_queued: int = 8) -> None:
    for n, turn_id in enumerate(turn_ids, 1):
        assert await store.begin_turn(make_queued(turn_id, at=seconds(n)), max_queued=max_queued) == turn_id


async def get_status(store: Store, turn_id: str) -> TurnStatus:
    turn = await store.get_turn(turn_id)
    assert turn is not None
    return turn.status


async def test_a_queued_turn_is_stored_with_its_message(store: Store) -> None:
    """Nothing that a visitor says is lost while it waits; the session counts it."""
    await enqueue(store, "second")

    assert await store.get_turn("second") == make_queued("second", at=seconds(1))
    assert await get_status(store, "second") is TurnStatus.QUEUED
    session = await store.get_session(SESSION_ID)
    assert session is not None
    assert (session.turn_count, session.last_message_at) == (2, seconds(1))


async def test_it_waits_until_the_running_turn_has_ended(store: Store) -> None:
    """It is told which turn it waits for, and when it runs it is known since when."""
    await enqueue(store, "second")
    assert await store.start_queued_turn("second", seconds(2)) == "running"
    assert await get_status(store, "second") is TurnStatus.QUEUED

    await store.settle_turn("running", make_outcome())
    assert await store.start_queued_turn("second", seconds(3)) is None
    second = await store.get_turn("second")
    assert second is not None
    assert (second.status, second.started_at, second.delivered_at) == (TurnStatus.RUNNING, seconds(3), seconds(3))
    assert (second.created_at, second.updated_at) == (seconds(1), seconds(3))


async def test_queued_turns_run_in_the_order_of_their_arrival(store: Store) -> None:
    """Whoever asks first: each waits for the oldest that has not ended. One runs at a time."""
    await enqueue(store, "second", "third", "fourth")
    await store.settle_turn("running", make_outcome())

    assert await store.start_queued_turn("fourth", seconds(5)) == "second"
    assert await store.start_queued_turn("third", seconds(5)) == "second"
    assert await store.start_queued_turn("second", seconds(5)) is None
    assert await store.start_queued_turn("third", seconds(5)) == "second"
    await store.settle_turn("second", make_failure())
    assert await store.start_queued_turn("fourth", seconds(6)) == "third"
    assert await store.start_queued_turn("third", seconds(6)) is None


async def test_a_turn_that_ends_while_it_waits_is_no_longer_waited_for(store: Store) -> None:
    """It was stopped, or nobody read it any more. It cannot start afterwards."""
    await enqueue(store, "second", "third")
    assert await store.settle_turn("second", make_outcome(""))
    await store.settle_turn("running", make_outcome())

    assert await store.start_queued_turn("third", seconds(5)) is None
    with pytest.raises(TurnNotFound):
        await store.start_queued_turn("second", seconds(5))
    second = await store.get_turn("second")
    assert second is not None
    assert second.status.is_final
    assert second.started_at is None


@pytest.mark.parametrize("turn_id", ["unknown", "running"])
async def test_only_a_queued_turn_can_start(store: Store, turn_id: str) -> None:
    """A running one has started already, and of an unknown one nothing is made."""
    with pytest.raises(TurnNotFound):
        await store.start_queued_turn(turn_id, seconds(1))

    assert await store.get_turn("unknown") is None


@pytest.mark.parametrize("max_queued", [0, 1, 3, 8])
async def test_so_many_wait_and_no_more(store: Store, max_queued: int) -> None:
    """The refused one is told which turn runs, and leaves no trace. A place that gets free is taken again."""
    queued = [f"queued_{n}" for n in range(max_queued)]
    await enqueue(store, *queued, max_queued=max_queued)
    with pytest.raises(TurnRunning) as refusal:
        await store.begin_turn(make_queued("late", at=seconds(60)), max_queued=max_queued)

    assert refusal.value.turn_id == "running"
    assert await store.get_turn("late") is None
    session = await store.get_session(SESSION_ID)
    assert session is not None
    assert session.turn_count == 1 + max_queued
    if queued:
        await store.settle_turn(queued[-1], make_failure())
        await store.begin_turn(make_queued("late", at=seconds(61)), max_queued=max_queued)


async def test_nobody_overtakes_the_queue(store: Store) -> None:
    """Between two turns a new one may join the queue, but not run at once. It is told which turn is next."""
    await enqueue(store, "second")
    await store.settle_turn("running", make_outcome())
    with pytest.raises(TurnRunning) as refusal:
        await store.begin_turn(make_turn("new", at=seconds(9)))

    assert refusal.value.turn_id == "second"
    await store.begin_turn(make_queued("third", at=seconds(9)), max_queued=8)
    assert await store.start_queued_turn("third", seconds(9)) == "second"


async def test_a_queued_turn_of_an_idle_session_starts(store: Store) -> None:
    """The running one ended between the refusal and the queue."""
    await store.settle_turn("running", make_outcome())
    await enqueue(store, "second")

    assert await store.start_queued_turn("second", seconds(1)) is None


async def test_sessions_do_not_wait_for_each_other(store: Store) -> None:
    """The queue is the session's."""
    await store.create_session(make_session("sess_other"))
    await enqueue(store, "second")
    other = replace(make_queued("other"), session_id="sess_other")
    await store.begin_turn(other, max_queued=1)

    assert await store.start_queued_turn("other", seconds(1)) is None


async def test_the_history_has_the_turns_in_the_order_of_their_arrival(store: Store) -> None:
    """Not in that of their ends. The times at which the animal was told them never go back."""
    await enqueue(store, "second", "third")
    await store.settle_turn("running", make_outcome(at=seconds(10)))
    for n, turn_id in enumerate(("second", "third"), 1):
        assert await store.start_queued_turn(turn_id, seconds(10 * n)) is None
        await store.settle_turn(turn_id, make_outcome(at=seconds(10 * (n + 1))))

    turns = (await store.list_turns(SESSION_ID, 10)).items
    assert [turn.turn_id for turn in turns] == ["running", "second", "third"]
    times = [at for turn in turns if turn.outcome for at in (turn.delivered_at, turn.outcome.ended_at)]
    assert times == sorted(times)


async def test_a_repeated_request_joins_the_turn_that_waits(store: Store) -> None:
    """It does not wait twice, even where the queue is full."""
    key = IdempotencyKey("key-1", "body-1", NOON + timedelta(days=1))
    await store.begin_turn(make_queued("second"), keys=[key], max_queued=1)

    assert await store.begin_turn(make_queued("again"), keys=[key], max_queued=1) == "second"
    assert await store.begin_turn(make_turn("again"), keys=[key]) == "second"
    assert await store.get_turn("again") is None
    assert await store.has_turn([key])


@pytest.mark.parametrize("has_started", [False, True])
@pytest.mark.parametrize("is_stopped", [False, True])
async def test_only_a_turn_that_failed_before_it_ran_leaves_its_key(
    store: Store, *, has_started: bool, is_stopped: bool
) -> None:
    """The request may be sent again: it was never asked. What a client has stopped stays stopped."""
    keys = [IdempotencyKey(f"key-{n}", "body-1", NOON + timedelta(days=1)) for n in (1, 2)]
    await store.begin_turn(make_queued("second"), keys=keys, max_queued=8)
    await store.settle_turn("running", make_outcome())
    if has_started:
        await store.start_queued_turn("second", seconds(2))
    await store.settle_turn("second", make_outcome("") if is_stopped else make_failure())
    is_free = not has_started and not is_stopped

    assert await store.has_turn(keys) is not is_free
    assert await store.begin_turn(make_turn("again"), keys=keys) == ("again" if is_free else "second")
    assert await store.begin_turn(make_turn("third"), keys=keys[1:]) == ("again" if is_free else "second")


async def test_queued_turns_have_leases(store: Store) -> None:
    """So another process can settle them when theirs has died; their messages stay."""
    await enqueue(store, "second")

    assert {lease.turn_id for lease in await store.list_running_turns()} == {"running", "second"}
    assert await store.renew_leases(["running", "second"], seconds(30)) == ["running", "second"]
    assert await store.settle_turn("second", make_failure())
    assert (await store.list_running_turns())[0].turn_id == "running"
    assert [turn.message for turn in (await store.list_turns(SESSION_ID, 9)).items] == ["Hello!", "This is second"]


async def test_queued_turns_are_deleted_with_their_session(store: Store) -> None:
    """Their ids are told, so that whoever waits for them can be told, too."""
    await enqueue(store, "second", "third")

    assert set(await store.delete_session(SESSION_ID) or ()) == {"running", "second", "third"}
    assert await store.get_turn("second") is None
    with pytest.raises(TurnNotFound):
        await store.start_queued_turn("second", seconds(1))


async def test_fifty_that_queue_at_once_keep_one_order(store: Store) -> None:
    """Eight are taken, the others refused; those eight run one after the other, each once."""
    turns = [make_queued(f"racer_{n}", at=seconds(n / 100)) for n in range(RACERS)]
    begun = await asyncio.gather(*(store.begin_turn(turn, max_queued=8) for turn in turns), return_exceptions=True)
    accepted = [result for result in begun if isinstance(result, str)]
    assert len(accepted) == 8
    assert [r.turn_id for r in begun if isinstance(r, TurnRunning)] == ["running"] * (RACERS - 8)

    last, order = "running", []
    for _ in range(8):
        await store.settle_turn(last, make_outcome())
        left = [turn_id for turn_id in accepted if turn_id not in order]
        answers = await asyncio.gather(*(store.start_queued_turn(turn_id, seconds(9)) for turn_id in left))
        (last,) = [turn_id for turn_id, ahead in zip(left, answers, strict=True) if ahead is None]
        order.append(last)
    assert order == [turn.turn_id for turn in (await store.list_turns(SESSION_ID, 100)).items[1:]]


async def test_two_processes_have_one_queue(opens: OpensStores, tmp_path: Path) -> None:
    """The store is the referee: order and length count over both."""
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        here, there = [(await stack.enter_async_context(opens(tmp_path, clock))).sessions for _ in range(2)]
        await here.create_session(make_session())
        await here.begin_turn(make_turn("running"))
        await there.begin_turn(make_queued("second"), max_queued=2)
        await here.begin_turn(make_queued("third"), max_queued=2)
        with pytest.raises(TurnRunning):
            await there.begin_turn(make_queued("fourth"), max_queued=2)

        assert await there.start_queued_turn("second", seconds(1)) == "running"
        await here.settle_turn("running", make_outcome())
        assert await here.start_queued_turn("third", seconds(1)) == "second"
        assert await there.start_queued_turn("second", seconds(1)) is None


async def read_credits(stores: Stores) -> tuple[int, list[tuple[str, int]]]:
    """Ben's balance, and the changes of it, oldest first."""
    balance = await stores.credits.get_balance("ben")
    assert balance is not None
    page = await stores.credits.list_entries("ben", 100)
    changes = [(entry.kind.value, entry.credits) for entry in page.items][::-1]
    assert balance.credits == sum(credits for _, credits in changes)
    return balance.credits, changes


async def give_credits(stores: Stores, credits: int) -> None:
    await stores.accounts.create_user(User("ben", Role.USER, "hash of ben's", NOON))
    await stores.credits.allocate_credits(Allocation("ben", credits, NOON))


async def test_a_turn_has_credits_reserved_when_it_runs(stores: Stores) -> None:
    """Not while it waits: the turns before it may need them. They are settled as those of any other turn."""
    await give_credits(stores, 100)
    await stores.sessions.begin_turn(make_queued("second"), charge=CHARGE, max_queued=8)
    assert await stores.sessions.start_queued_turn("second", seconds(1), CHARGE) == "running"
    assert await read_credits(stores) == (100, [("allocate", 100)])

    await stores.sessions.settle_turn("running", make_outcome())
    assert await stores.sessions.start_queued_turn("second", seconds(1), CHARGE) is None
    assert (await read_credits(stores))[0] == 40
    await stores.sessions.settle_turn("second", replace(make_outcome(), credits_used=7))
    assert await read_credits(stores) == (93, [("allocate", 100), ("reserve", -60), ("settle", 53)])


async def test_a_turn_that_ends_while_it_waits_costs_nothing(stores: Stores) -> None:
    """There is nothing to refund either."""
    await give_credits(stores, 100)
    await stores.sessions.begin_turn(make_queued("second"), charge=CHARGE, max_queued=8)
    await stores.sessions.settle_turn("second", make_failure())

    assert await read_credits(stores) == (100, [("allocate", 100)])


async def test_without_credits_a_queued_turn_does_not_run(stores: Stores) -> None:
    """They were spent while it waited. It stays queued until somebody settles it."""
    await give_credits(stores, 5)
    store = stores.sessions
    await store.begin_turn(make_queued("second"), charge=CHARGE, max_queued=8)
    await store.create_session(make_session("sess_other"))
    await store.begin_turn(make_turn("spender", "sess_other"), charge=CHARGE)
    await store.settle_turn("spender", replace(make_outcome(), credits_used=5))
    await store.settle_turn("running", make_outcome())
    with pytest.raises(InsufficientCredits):
        await store.start_queued_turn("second", seconds(1), CHARGE)

    assert await get_status(store, "second") is TurnStatus.QUEUED
    assert (await read_credits(stores))[0] == 0
    assert await store.settle_turn("second", make_failure())
