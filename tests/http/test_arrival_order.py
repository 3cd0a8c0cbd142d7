"""The places that requests take when they arrive: who waits for whom, and who leaves without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from openapi_server.http.arrival_order import Arrival, KeyedQueues


class Requests:
    """Requests that have arrived in the order of their numbers, each for the session of that place in the list."""

    def __init__(self, sessions: Sequence[str | None], callers: str = "") -> None:
        self.callers, self.sessions = KeyedQueues(), KeyedQueues()
        names = callers or "a" * len(sessions)
        self.arrivals = [Arrival(self.callers, self.sessions, name) for name in names]
        self.told: list[int] = []
        self.may_end = [asyncio.Event() for _ in sessions]
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._ids = sessions

    async def come(self, *numbers: int) -> None:
        """These have been read, one after the other; returns when all have gone as far as they can."""
        for number in numbers:
            self.tasks[number] = asyncio.create_task(self._store(number))
            await settle()

    async def end(self, *numbers: int) -> None:
        for number in numbers:
            self.may_end[number].set()
            await settle()

    async def _store(self, number: int) -> None:
        async with self.arrivals[number].run_in_order(self._ids[number]):
            self.told.append(number)
            await self.may_end[number].wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_session_has_one_at_a_time_in_the_order_of_arrival() -> None:
    requests = Requests(["s", "s", "s"])
    await requests.come(2, 1)
    assert requests.told == []

    await requests.come(0)
    assert requests.told == [0]
    await requests.end(0)
    assert requests.told == [0, 1]
    await requests.end(1, 2)
    assert requests.told == [0, 1, 2]
    assert (len(requests.callers), len(requests.sessions)) == (0, 0)


async def test_other_sessions_are_waited_for_only_until_they_are_known() -> None:
    """The second need not wait until the turn of the first is stored."""
    requests = Requests(["s", "t"])
    await requests.come(1)
    assert requests.told == []

    await requests.come(0)
    assert requests.told == [0, 1]


async def test_other_callers_are_not_waited_for() -> None:
    """Only where both are in one session, and the other one is known to be."""
    requests = Requests(["s", "t", "s"], callers="aba")
    await requests.come(1)

    assert requests.told == [1]


async def test_a_new_session_waits_for_nobody() -> None:
    """And nobody for it."""
    requests = Requests(["s", None, "s"])
    await requests.come(1, 2)
    assert requests.told == [1]

    await requests.come(0)
    await requests.end(0)
    assert requests.told == [1, 0, 2]


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_request_that_is_refused_holds_up_nobody(leaver: int) -> None:
    requests = Requests(["s", "s", "s"])
    others = [number for number in range(3) if number != leaver]
    await requests.come(*others)
    requests.arrivals[leaver].leave()
    requests.arrivals[leaver].leave()
    await settle()
    await requests.end(*others)

    assert requests.told == others
    assert (len(requests.callers), len(requests.sessions)) == (0, 0)


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_client_that_leaves_while_it_waits_holds_up_nobody(*, has_begun: bool) -> None:
    """Among the requests of its caller, or among those of its session."""
    requests = Requests(["s", "s", "s"])
    await requests.come(*([0, 1, 2] if has_begun else [1, 2]))
    requests.tasks[1].cancel()
    requests.arrivals[1].leave()
    if not has_begun:
        await requests.come(0)
    await requests.end(0, 2)

    assert requests.told == [0, 2]
    assert requests.tasks[1].cancelled()
    assert (len(requests.callers), len(requests.sessions)) == (0, 0)
