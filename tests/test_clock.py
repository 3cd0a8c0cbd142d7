"""The deadline timer: it fires once, at the latest deadline that was set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from openapi_server.clock import DeadlineTimer

TIMEOUT_S = 10
SOON_S = 0.02
LATER_S = 0.1
# A loop may fire a timer a clock tick early.
TICK_S = 0.01


class Fired:
    """Records the times at which a timer fires."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.times_s.append(asyncio.get_running_loop().time())
        self.event.set()


async def wait_for(seconds: float) -> None:
    """Wait with a timer of its own, which is set after the one under test."""
    fired = Fired()
    DeadlineTimer(fired).set(seconds)
    await asyncio.wait_for(fired.event.wait(), TIMEOUT_S)


async def test_a_deadline_fires_once() -> None:
    """And not before its time."""
    fired = Fired()
    started_s = asyncio.get_running_loop().time()
    DeadlineTimer(fired).set(SOON_S)
    await asyncio.wait_for(fired.event.wait(), TIMEOUT_S)
    await wait_for(LATER_S)

    assert len(fired.times_s) == 1
    assert fired.times_s[0] >= started_s + SOON_S - TICK_S


async def test_a_deadline_that_is_set_again_fires_at_the_later_time() -> None:
    """The running timer finds the deadline moved, and goes on."""
    fired = Fired()
    timer = DeadlineTimer(fired)
    timer.set(SOON_S)
    started_s = asyncio.get_running_loop().time()
    timer.set(LATER_S)
    await asyncio.wait_for(fired.event.wait(), TIMEOUT_S)

    assert len(fired.times_s) == 1
    assert fired.times_s[0] >= started_s + LATER_S - TICK_S


async def test_a_deadline_may_be_set_to_an_earlier_time() -> None:
    """It does not wait for the first one."""
    fired = Fired()
    timer = DeadlineTimer(fired)
    timer.set(TIMEOUT_S * 100)
    timer.set(SOON_S)

    await asyncio.wait_for(fired.event.wait(), TIMEOUT_S)


async def test_a_cleared_or_cancelled_timer_does_not_fire() -> None:
    """Both can be set again."""
    cleared, cancelled = Fired(), Fired()
    timers = DeadlineTimer(cleared), DeadlineTimer(cancelled)
    for timer in timers:
        timer.set(SOON_S)
    timers[0].clear()
    timers[1].cancel()
    await wait_for(LATER_S)
    assert (cleared.times_s, cancelled.times_s) == ([], [])

    for timer in timers:
        timer.set(SOON_S)
    await asyncio.wait_for(asyncio.gather(cleared.event.wait(), cancelled.event.wait()), TIMEOUT_S)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_deadline_may_be_moved_when_it_is_nearly_due(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """For a time less than a millisecond away, uvloop returns a handle that does not tell its time."""

    async def move() -> int:
        fired = Fired()
        timer = DeadlineTimer(fired)
        for seconds in (0.0, 0.0001, 0.0004, 0.0009, 0.002):
            timer.set(seconds)
            timer.set(LATER_S)
            timer.set(seconds)
        await asyncio.wait_for(fired.event.wait(), TIMEOUT_S)
        return len(fired.times_s)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(move()) == 1
