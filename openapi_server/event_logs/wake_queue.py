"""Waking readers: in the order in which there was news for them, a few in each round of the event loop.

With a thousand streams on one loop, waking every reader at once would keep the loop busy with them for a tenth of a
second, and a health check behind them would wait. A few at a time keep every round short. And when there is more to do
than time, readers wait a little longer and then find several entries at once, which leave in one write: under load the
streams get coarser, not slower.
"""

from __future__ import annotations

import asyncio
from itertools import islice

WAKES_PER_ROUND = 32


class WakeQueue:
    """Sets events, `WOKEN_IN_A_ROUND` in each round of the loop. One that waits already is not queued again."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Event, None] = {}
        self._is_scheduled = False

    def wake(self, event: asyncio.Event) -> None:
        self._waiting[event] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and self._waiting:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        self._is_scheduled = False
        for event in list(islice(self._waiting, WAKES_PER_ROUND)):
            del self._waiting[event]
            event.set()
        self._schedule()
