"""Schedules stored turns: they run in order, a few in each round of the event loop.

While requests wait for their turns to be stored, no turn starts to run. So when a thousand messages arrive together,
each client gets the head of its stream soon, and running streams are not delayed by the ones that begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from openapi_server.round_queue import RoundQueue

RUNS_PER_ROUND, RUNS_S_PER_ROUND = 8, 0.002


class TurnScheduler:
    """Lets turns run unless it is paused: by whoever knows of requests that wait to begin a turn."""

    def __init__(self) -> None:
        self._runs = RoundQueue(RUNS_PER_ROUND, RUNS_S_PER_ROUND)
        self._paused_by = 0

    def __len__(self) -> int:
        """How many turns wait."""
        return len(self._runs)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """No turn starts to run as long as the context lasts."""
        self._paused_by += 1
        self._runs.pause()
        try:
            yield
        finally:
            self._paused_by -= 1
            if not self._paused_by:
                self._runs.resume()

    async def wait(self) -> None:
        """Return when the turn may run."""
        if self._runs.take_round():
            return
        may_run: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run = partial(_let_run, may_run)
        self._runs.add(run)
        try:
            await may_run
        finally:
            self._runs.discard(run)


def _let_run(may_run: asyncio.Future[None]) -> None:
    if not may_run.done():
        may_run.set_result(None)
