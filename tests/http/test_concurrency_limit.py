"""Requests that wait: each caller in turn, and nobody behind the five hundred requests of somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from openapi_server.engine.turn_scheduler import TurnScheduler
from openapi_server.http.concurrency_limit import (
    RETRY_AFTER_S,
    ConcurrencyLimitMiddleware,
    FairSlots,
    PendingTurns,
    WaitingRequests,
    name_queue,
)
from openapi_server.http.operation_table import OPERATION_EXTENSION, SpecOperation
from openapi_server.http.rate_limits import ADMISSION_EXTENSION, Admission, Caller
from openapi_server.models.errors import Overloaded
from openapi_server.round_queue import RoundQueue
from tests.http.test_rate_limits import make_limits

WAIT_S = 10
MANY = 1000
STRANGERS, KNOWN = "strangers", "known"


class HoldsEach:
    """An application that notes who was let in, and answers when it is told to."""

    def __init__(self) -> None:
        self.let_in: list[str] = []
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.let_in.append(scope["name"])
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


def make_scope(name: str, caller: Caller, kind: str = "turns", **headers: str) -> Scope:
    operation = SpecOperation("handler", rate_limit=kind)
    extensions = {ADMISSION_EXTENSION: Admission(make_limits(), caller), OPERATION_EXTENSION: operation}
    named = [(each.replace("_", "-").encode(), value.encode()) for each, value in headers.items()]
    return {"type": "http", "path": "/convo_turn_stream", "name": name, "headers": named, "extensions": extensions}


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(message: Message) -> None:
    """An answer that nobody reads."""


def make_limit(
    app: HoldsEach, slots: int, waiting: WaitingRequests | None = None, pending: PendingTurns | None = None
) -> ConcurrencyLimitMiddleware:
    pending = pending or PendingTurns(MANY, TurnScheduler())
    return ConcurrencyLimitMiddleware(app, max_concurrent=slots, waiting=waiting or WaitingRequests(), pending=pending)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def run_requests(scopes: Iterable[Scope], slots: int) -> list[str]:
    """Who was let in, in that order; all requests are there before the first answer."""
    app, waiting = HoldsEach(), WaitingRequests()
    limit = make_limit(app, slots, waiting)
    sent = [asyncio.create_task(limit(scope, receive, ignore)) for scope in scopes]
    await settle()
    assert waiting.count == max(0, len(sent) - slots)
    app.may_answer.set()
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*sent)
    assert waiting.count == 0
    return app.let_in


async def test_a_known_visitor_does_not_wait_behind_invented_names() -> None:
    """Five hundred new devices of one address are one caller; a known cookie there is another."""
    flood = [make_scope(STRANGERS, Caller(f"device-{n}", "address", is_new=True)) for n in range(500)]
    order = await run_requests([*flood, make_scope(KNOWN, Caller("cookie", "address"))], slots=8)

    assert order.index(KNOWN) <= 10


async def test_two_addresses_wait_in_turn() -> None:
    """Also for nameless callers."""
    one = [make_scope("one", Caller("address-1", "address-1")) for _ in range(100)]
    two = [make_scope("two", Caller("address-2", "address-2")) for _ in range(100)]
    order = await run_requests([*one, *two], slots=1)

    assert order[:2] == ["one", "one"]
    assert all(order[at] != order[at + 1] for at in range(2, 190))


@pytest.mark.parametrize("known_first", [True, False])
async def test_requests_of_one_caller_keep_their_order(known_first: bool) -> None:
    """The first come, first served."""
    scopes = [make_scope(f"{n}", Caller("cookie", "address", is_new=not known_first)) for n in range(50)]

    assert await run_requests(scopes, slots=4) == [f"{n}" for n in range(50)]


class AnswersAtOnce(HoldsEach):
    """An application that waits for nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.let_in.append(scope["name"])
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def test_requests_that_wait_for_nothing_are_spread_over_rounds_too() -> None:
    """They take their time of the event loop all the same: who comes later, alone, is not behind all of them."""
    app = AnswersAtOnce()
    limit = make_limit(app, 8)
    flood = [make_scope("one", Caller("address-1", "address-1")) for _ in range(500)]
    sent = [asyncio.create_task(limit(scope, receive, ignore)) for scope in flood]
    for rounds in range(3):
        await asyncio.sleep(0)
        assert len(app.let_in) <= 1 + 8 * rounds
    sent.append(asyncio.create_task(limit(make_scope("two", Caller("address-2", "address-2")), receive, ignore)))
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*sent)

    assert app.let_in.index("two") <= 32


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(1, 4))
async def test_no_slot_is_lost(requests: list[tuple[str, bool]], count: int) -> None:
    """Whoever leaves while waiting, or at the moment of its turn, keeps no slot; everybody else gets one."""
    slots, served = FairSlots(count, RoundQueue(count)), 0

    async def use(caller: str) -> None:
        nonlocal served
        await slots.acquire(caller)
        try:
            await asyncio.sleep(0)
            served += 1
        finally:
            slots.release()

    tasks = [(asyncio.create_task(use(caller)), leaves) for caller, leaves in requests]
    await asyncio.sleep(0)
    for task, leaves in tasks:
        if leaves:
            task.cancel()
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert served >= sum(not leaves for _, leaves in tasks)
        for _ in range(count):
            await slots.acquire("last")


@pytest.mark.parametrize(
    ("kind", "headers"), [("streams", {}), ("reads", {}), ("turns", {"last_event_id": "turn_1-2"})]
)
async def test_whoever_starts_nothing_does_not_wait_behind_messages(kind: str, headers: dict[str, str]) -> None:
    """A turn is stopped, polled or resumed while a thousand messages of the same address wait."""
    app, address = HoldsEach(), Caller("address", "address")
    limit = make_limit(app, 1)
    messages = [asyncio.create_task(limit(make_scope("message", address), receive, ignore)) for _ in range(50)]
    other = asyncio.create_task(limit(make_scope("other", address, kind, **headers), receive, ignore))
    await settle()
    assert app.let_in == ["message", "other"]

    app.may_answer.set()
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*messages, other)


class Burst:
    """Messages that wait, more than there may be, and what they were answered."""

    def __init__(self, most: int) -> None:
        self.app, self.scheduler = HoldsEach(), TurnScheduler()
        self.pending = PendingTurns(most, self.scheduler)
        self.limit = make_limit(self.app, 1, pending=self.pending)
        self.statuses: dict[str, list[int]] = {}
        self.retry_after_s: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, name: str, caller: Caller, count: int = 1) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._send(make_scope(name, caller))))
        await settle()

    async def _send(self, scope: Scope) -> None:
        caller = name_queue(scope)

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.statuses.setdefault(scope["name"], []).append(message["status"])
                headers = dict(message["headers"])
                self.retry_after_s += [int(headers[b"retry-after"])] if message["status"] == 503 else []

        self.pending.enter(caller)
        try:
            await self.limit(scope, receive, note)
        finally:
            self.pending.leave(caller)

    async def answer_all(self) -> None:
        self.app.may_answer.set()
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*self.tasks)


async def test_a_caller_with_one_message_takes_the_place_of_a_caller_with_many() -> None:
    """Nobody who sends five hundred messages keeps others out; each of them finds room while there is any."""
    burst = Burst(most=10)
    await burst.send("many", Caller("address-1", "address-1"), 12)
    assert burst.statuses == {"many": [503, 503]}

    others = [Caller(f"address-{number}", f"address-{number}") for number in (2, 3)]
    for caller in others:
        burst.pending.require_room(caller)
        await burst.send("other", caller)
    assert burst.statuses == {"many": [503, 503, 503, 503]}
    assert (burst.pending.count, burst.pending.refused_count) == (10, 4)
    await burst.answer_all()
    assert burst.statuses == {"many": [503] * 4 + [200] * 8, "other": [200, 200]}
    assert set(burst.retry_after_s) <= set(RETRY_AFTER_S)
    # They do not all come back at the same moment.
    assert len(set(burst.retry_after_s)) > 1
    assert burst.pending.count == 0


async def test_equal_callers_are_refused_in_the_order_of_their_arrival() -> None:
    """A thousand visitors with a message each: those who came first keep their places."""
    burst = Burst(most=3)
    for number in range(5):
        await burst.send(f"{number}", Caller(f"address-{number}", f"address-{number}"))

    assert burst.statuses == {"3": [503], "4": [503]}
    await burst.answer_all()


async def test_turns_that_have_not_run_yet_take_places_too() -> None:
    """Their messages are stored, and nothing of them is answered: more of them would wait for longer and longer."""
    burst, caller = Burst(most=2), Caller("address", "address")
    with burst.scheduler.pause():
        turns = [asyncio.create_task(burst.scheduler.wait()) for _ in range(2)]
        await settle()
        with pytest.raises(Overloaded):
            burst.pending.require_room(caller)
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*turns)
    burst.pending.require_room(caller)


async def test_no_turn_runs_while_messages_wait() -> None:
    """All requests pass before the turns run."""
    burst, caller = Burst(most=MANY), Caller("address", "address")
    await burst.send("message", caller, 3)
    turn = asyncio.create_task(burst.scheduler.wait())
    await settle()
    assert not turn.done()

    await burst.answer_all()
    async with asyncio.timeout(WAIT_S):
        await turn
