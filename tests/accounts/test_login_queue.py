"""Logins wait for their turn: addresses in turn, within bounds, and nobody who has left."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from openapi_server.accounts.passwords import MAX_WAITING, MAX_WAITING_OF_ADDRESS, THREADS, LoginQueue
from openapi_server.models.errors import LoginsBusy, RateLimited


class Logins:
    """Logins in a queue, which last until they are told to end; `began` are the addresses in their order."""

    def __init__(self) -> None:
        self.queue = LoginQueue()
        self.began: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._may_end = asyncio.Semaphore(0)

    async def add(self, address: str, count: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._log_in(address)) for _ in range(count)]
        await asyncio.sleep(0)

    async def end(self, count: int) -> None:
        for _ in range(count):
            self._may_end.release()
            for _ in range(5):
                await asyncio.sleep(0)

    async def _log_in(self, address: str) -> None:
        async with self.queue.wait_for_place(address):
            self.began.append(address)
            await self._may_end.acquire()


async def test_addresses_take_turns() -> None:
    """Fifty of one address do not delay the one of another by more than one."""
    logins = Logins()
    await logins.add("flood", MAX_WAITING_OF_ADDRESS)
    await logins.add("mia")
    await logins.add("ben")
    await logins.end(4)
    assert logins.began == ["flood"] * THREADS + ["flood", "mia", "ben", "flood"]
    await logins.end(MAX_WAITING)
    await asyncio.gather(*logins.tasks)
    assert Counter(logins.began) == {"flood": MAX_WAITING_OF_ADDRESS, "mia": 1, "ben": 1}
    assert (logins.queue.length, logins.queue._free) == (0, THREADS)


async def test_the_queue_is_bounded_for_each_address_and_in_all() -> None:
    """Refused at once, and told when to come back."""
    logins = Logins()
    await logins.add("flood", 50)
    refused = [task.exception() for task in logins.tasks if task.done()]
    assert [type(error) for error in refused] == [RateLimited] * (50 - THREADS - MAX_WAITING_OF_ADDRESS)
    for number in range(MAX_WAITING - MAX_WAITING_OF_ADDRESS):
        await logins.add(f"address {number}")
    assert logins.queue.length == MAX_WAITING
    with pytest.raises(LoginsBusy) as busy:
        async with logins.queue.wait_for_place("late"):
            pass
    assert busy.value.retry_after_s == 2
    await logins.end(MAX_WAITING + THREADS)
    await asyncio.gather(*logins.tasks, return_exceptions=True)
    assert (logins.queue.length, logins.queue._free) == (0, THREADS)


@pytest.mark.parametrize("also_ends", [False, True])
async def test_who_leaves_leaves_the_queue(also_ends: bool) -> None:
    """Waiting, running, or at the moment of its turn: no turn is lost and none is given twice."""
    logins = Logins()
    await logins.add("flood", 10)
    await logins.add("mia", 3)
    if also_ends:
        logins._may_end.release()
        await asyncio.sleep(0)
    for task in logins.tasks[1:-1]:
        task.cancel()
    await asyncio.gather(*logins.tasks[1:-1], return_exceptions=True)
    await logins.end(2)
    await asyncio.gather(*logins.tasks, return_exceptions=True)
    assert logins.began[-1] == "mia"
    assert len(logins.began) <= THREADS + 2
    assert (logins.queue.length, logins.queue._free) == (0, THREADS)
    assert not logins.queue._waiting


async def test_a_login_that_was_abandoned_takes_no_place() -> None:
    """As many as may wait have left: the next one waits, and is not refused."""
    logins = Logins()
    await logins.add("flood", THREADS + MAX_WAITING_OF_ADDRESS)
    for task in logins.tasks[THREADS:]:
        task.cancel()
    await asyncio.sleep(0)
    assert logins.queue.length == 0
    await logins.add("flood")
    await logins.end(THREADS + 1)
    await asyncio.gather(*logins.tasks, return_exceptions=True)

    assert len(logins.began) == THREADS + 1
