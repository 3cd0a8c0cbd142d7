"""Requests that wait: each caller in turn, and nobody behind the five hundred requests of somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from openapi_server.http.concurrency_limit import ConcurrencyLimitMiddleware, FairSlots, WaitingRequests
from openapi_server.http.rate_limits import ADMISSION_EXTENSION, Admission, Caller
from tests.http.test_rate_limits import make_limits

WAIT_S = 10
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


def make_scope(name: str, caller: Caller) -> Scope:
    admission = Admission(make_limits(), caller)
    extensions = {ADMISSION_EXTENSION: admission}
    return {"type": "http", "path": "/convo_turn_stream", "name": name, "extensions": extensions}


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(message: Message) -> None:
    """An answer that nobody reads."""


async def run_requests(scopes: Iterable[Scope], slots: int) -> list[str]:
    """Who was let in, in that order; all requests are there before the first answer."""
    app, waiting = HoldsEach(), WaitingRequests()
    limit = ConcurrencyLimitMiddleware(app, max_concurrent=slots, waiting=waiting)
    sent = [asyncio.create_task(limit(scope, receive, ignore)) for scope in scopes]
    await asyncio.sleep(0)
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
    limit = ConcurrencyLimitMiddleware(app, max_concurrent=8, waiting=WaitingRequests())
    flood = [make_scope("one", Caller("address-1", "address-1")) for _ in range(500)]
    sent = [asyncio.create_task(limit(scope, receive, ignore)) for scope in flood]
    await asyncio.sleep(0)
    assert len(app.let_in) == 8
    sent.append(asyncio.create_task(limit(make_scope("two", Caller("address-2", "address-2")), receive, ignore)))
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*sent)

    assert app.let_in.index("two") <= 32


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(1, 4))
async def test_no_slot_is_lost(requests: list[tuple[str, bool]], count: int) -> None:
    """Whoever leaves while waiting, or at the moment of its turn, keeps no slot; everybody else gets one."""
    slots, served = FairSlots(count), 0

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
