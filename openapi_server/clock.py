"""The system clock, and a timer that is reset cheaply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime


class SystemClock:
    """`Clock` of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class DeadlineTimer:
    """Calls back when it was not cleared or set again within its time, in seconds. Belongs to one event loop.

    A new timer for every piece of every stream costs more than sending the piece. So one timer keeps running, and only
    when it fires does it compare the time with the latest deadline.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._on_timeout = on_timeout
        self._loop = asyncio.get_running_loop()
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, wait_s: float) -> None:
        """Call back in `wait_s` seconds, whatever was set before."""
        self._due_s = self._loop.time() + wait_s
        if self._timer is None or self._timer.when() > self._due_s:
            self._start(self._due_s)

    def clear(self) -> None:
        """No deadline for now. The running timer is kept for the next `set`."""
        self._due_s = None

    def cancel(self) -> None:
        """Stop the running timer, too."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, due_s: float) -> None:
        self.cancel()
        self._timer = self._loop.call_at(due_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() >= self._due_s:
            self._due_s = None
            self._on_timeout()
        else:
            self._start(self._due_s)
