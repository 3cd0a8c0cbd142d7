"""Turns wait while requests wait to begin others."""

from __future__ import annotations

import asyncio

from openapi_server.engine.turn_scheduler import RUNS_PER_ROUND, TurnScheduler

WAIT_S = 10


async def run_turn(scheduler: TurnScheduler, name: int, passed: list[int]) -> None:
    await scheduler.wait()
    passed.append(name)


async def test_a_few_turns_run_in_each_round() -> None:
    """In their order, and the first of them at once."""
    scheduler, passed = TurnScheduler(), list[int]()
    count = 3 * RUNS_PER_ROUND
    waiting = [asyncio.create_task(run_turn(scheduler, number, passed)) for number in range(count)]
    await asyncio.sleep(0)
    assert (passed, len(scheduler)) == ([0], count - 1)
    before = 1
    async with asyncio.timeout(WAIT_S):
        while scheduler:
            await asyncio.sleep(0)
            assert len(passed) - before <= RUNS_PER_ROUND
            before = len(passed)
        await asyncio.gather(*waiting)

    assert passed == list(range(count))


async def test_no_turn_runs_during_a_pause() -> None:
    """Who leaves while it waits is not counted any more."""
    scheduler, passed = TurnScheduler(), list[int]()
    with scheduler.pause():
        with scheduler.pause():
            waiting = [asyncio.create_task(run_turn(scheduler, number, passed)) for number in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert (passed, len(scheduler)) == ([], 3)

        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        assert len(scheduler) == 2
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(waiting[0], waiting[2])
    assert passed == [0, 2]
