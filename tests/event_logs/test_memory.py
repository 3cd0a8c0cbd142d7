"""The event log in memory, beyond what `contracts/test_event_log.py` asks of every log: how it wakes its readers."""

from __future__ import annotations

import asyncio

from openapi_server.event_logs.memory import WAKES_PER_ROUND, WakeQueue


async def test_readers_are_woken_in_order_a_few_in_each_round() -> None:
    """Other tasks run between the rounds, however many readers there are."""
    queue = WakeQueue()
    events = [asyncio.Event() for _ in range(2 * WAKES_PER_ROUND + 1)]
    for event in events:
        queue.wake(event)

    woken = []
    for _ in range(3):
        await asyncio.sleep(0)
        woken.append([event.is_set() for event in events])
    assert woken == [[number < rounds * WAKES_PER_ROUND for number in range(len(events))] for rounds in (1, 2, 3)]


async def test_a_reader_that_is_queued_keeps_its_place() -> None:
    """It is woken once for several appends."""
    queue = WakeQueue()
    first, *others = events = [asyncio.Event() for _ in range(WAKES_PER_ROUND + 1)]
    for event in (*events, first):
        queue.wake(event)
    await asyncio.sleep(0)

    assert first.is_set()
    assert [event.is_set() for event in others] == [True] * (WAKES_PER_ROUND - 1) + [False]
    first.clear()
    await asyncio.sleep(0)
    assert others[-1].is_set()
    assert not first.is_set()
