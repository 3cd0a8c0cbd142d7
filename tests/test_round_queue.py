"""Callbacks in rounds of the event loop: in order, a few in each, and each once."""

from __future__ import annotations

import asyncio
import time
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


def work(seconds: float) -> None:
    """Take so much time of the processor."""
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        pass


async def work_in_task(seconds: float) -> None:
    work(seconds)


async def count_rounds(queue: RoundQueue) -> int:
    rounds = 0
    while queue:
        await asyncio.sleep(0)
        rounds += 1
    return rounds


async def test_in_a_round_as_many_run_as_take_its_time() -> None:
    """By what they took before: the first round does not know it yet. It is the processor's time, not the clock's."""
    queue = RoundQueue(PER_ROUND, budget_s=0.002)
    for _ in range(PER_ROUND + 20):
        queue.add(partial(work, 0.001))

    assert await count_rounds(queue) >= 8


async def test_the_first_step_of_a_task_counts_as_the_time_of_the_callback_that_made_it() -> None:
    """A request begins, and a reader is woken, in a task of its own."""
    queue, tasks = RoundQueue(PER_ROUND, budget_s=0.001), []
    for _ in range(PER_ROUND + 20):
        queue.add(lambda: tasks.append(asyncio.create_task(work_in_task(0.001))))

    # The cost is known one round later.
    assert await count_rounds(queue) >= 8
    await asyncio.gather(*tasks)


async def test_short_callbacks_are_limited_by_their_number_alone() -> None:
    """At least one runs in each round, too."""
    queue, calls = RoundQueue(PER_ROUND, budget_s=1), list[int]()
    for number in range(3 * PER_ROUND):
        queue.add(partial(calls.append, number))

    assert await count_rounds(queue) == 3
    assert calls == list(range(3 * PER_ROUND))


async def test_nothing_is_called_during_a_pause() -> None:
    """And what was discarded never is."""
    queue, calls = RoundQueue(PER_ROUND), list[str]()
    first, second = partial(calls.append, "first"), partial(calls.append, "second")
    queue.add(first)
    queue.pause()
    queue.add(second)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (calls, len(queue)) == ([], 2)

    queue.discard(first)
    queue.resume()
    await asyncio.sleep(0)
    assert (calls, len(queue)) == (["second"], 0)


async def test_all_that_waits_can_be_called_at_once() -> None:
    """When something closes."""
    queue, calls = RoundQueue(1), list[int]()
    for number in range(3):
        queue.add(partial(calls.append, number))
    queue.call_all()
    assert (calls, len(queue)) == ([0, 1, 2], 0)
    await asyncio.sleep(0)
    assert calls == [0, 1, 2]


async def test_the_first_of_a_round_need_not_wait_for_the_next_one() -> None:
    """Unless others wait, or nothing may run now."""
    queue, calls = RoundQueue(PER_ROUND), list[str]()
    assert queue.take_round()
    assert not queue.take_round()
    await asyncio.sleep(0)
    assert queue.take_round()
    queue.add(partial(calls.append, "next"))
    await asyncio.sleep(0)
    assert calls == ["next"]
    await asyncio.sleep(0)
    queue.pause()
    assert not queue.take_round()


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
