"""Where turns that were stored wait until they run: in order, a few in each round of the event loop.

While requests wait for their turns to be stored, none is let through. So of a thousand messages that arrive together
everybody hears soon that the animal has heard them, and streams that have begun to speak are not held up by beginnings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from openapi_server.round_queue import RoundQueue

RUNS_PER_ROUND, RUNS_S_PER_ROUND = 8, 0.002


class TurnGate:
    """Lets turns run while nobody keeps it closed: whoever knows of requests that wait does."""

    def __init__(self) -> None:
        self._runs = RoundQueue(RUNS_PER_ROUND, RUNS_S_PER_ROUND)
        self._closed_by = 0

    def __len__(self) -> int:
        """How many turns wait."""
        return len(self._runs)

    @contextmanager
    def close(self) -> Iterator[None]:
        """Closed as long as the context lasts."""
        self._closed_by += 1
        self._runs.pause()
        try:
            yield
        finally:
            self._closed_by -= 1
            if not self._closed_by:
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
