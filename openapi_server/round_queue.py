"""Spreads callbacks over the rounds of the event loop.

A round runs all that is ready. When hundreds of requests or readers become ready at once, a round takes as long as all
of them together, and whoever needs a few rounds, such as a health check, waits for a few times that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice


class RoundQueue:
    """Calls callbacks in the order in which they were added, at most `per_round` in each round of the event loop.

    Belongs to one event loop.
    """

    def __init__(self, per_round: int) -> None:
        self._per_round = per_round
        self._waiting: dict[Callable[[], object], None] = {}
        self._is_scheduled = False

    def add(self, callback: Callable[[], object]) -> None:
        """Call it soon. A callback that waits already keeps its place, and is called once."""
        self._waiting[callback] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and self._waiting:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._call_some)

    def _call_some(self) -> None:
        self._is_scheduled = False
        due = list(islice(self._waiting, self._per_round))
        for callback in due:
            del self._waiting[callback]
        self._schedule()
        for callback in due:
            callback()
