"""A timeout that is pushed back far more often than it is needed: a reader's patience between two pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back when it was not hushed in time.

    Setting a timer for every piece of every stream costs more than the piece itself. So one timer runs on, and only
    when it goes off does it look whether the time is up.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ring_in(self, wait_s: float) -> None:
        self._due_s = self._loop.time() + wait_s
        if self._timer is None or self._timer.when() > self._due_s:
            self._arm(self._due_s)

    def hush(self) -> None:
        """Not this time; the timer stays for the next."""
        self._due_s = None

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due_s: float) -> None:
        self.cancel()
        self._timer = self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() >= self._due_s:
            self._due_s = None
            self._ring()
        else:
            self._arm(self._due_s)
