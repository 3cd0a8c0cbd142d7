"""Callbacks in rounds of the event loop: in order, a few in each, and each once."""

from __future__ import annotations

import asyncio
from functools import partial

from openapi_server.round_queue import RoundQueue

PER_ROUND = 8


async def test_callbacks_run_in_order_a_few_in_each_round() -> None:
    """Other tasks run between the rounds, however many callbacks wait."""
    queue = RoundQueue(PER_ROUND)
    events = [asyncio.Event() for _ in range(2 * PER_ROUND + 1)]
    for event in events:
        queue.add(event.set)

    woken = []
    for _ in range(3):
        await asyncio.sleep(0)
        woken.append([event.is_set() for event in events])
    assert woken == [[number < rounds * PER_ROUND for number in range(len(events))] for rounds in (1, 2, 3)]


async def test_a_callback_that_waits_keeps_its_place() -> None:
    """It is called once, as a reader is woken once for several appends."""
    queue = RoundQueue(PER_ROUND)
    first, *others = events = [asyncio.Event() for _ in range(PER_ROUND + 1)]
    for event in (*events, first):
        queue.add(event.set)
    await asyncio.sleep(0)

    assert first.is_set()
    assert [event.is_set() for event in others] == [True] * (PER_ROUND - 1) + [False]
    first.clear()
    await asyncio.sleep(0)
    assert others[-1].is_set()
    assert not first.is_set()


async def test_a_callback_may_add_itself_again() -> None:
    """It then waits for the next round, behind the others."""
    queue, calls = RoundQueue(1), []

    def call(name: str, *, again: bool) -> None:
        calls.append(name)
        if again:
            queue.add(partial(call, name, again=False))

    queue.add(partial(call, "first", again=True))
    queue.add(partial(call, "second", again=False))
    for _ in range(4):
        await asyncio.sleep(0)

    assert calls == ["first", "second", "first"]
