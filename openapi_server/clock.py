"""The system clock, and a deadline timer that is cheap to reset."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime


class SystemClock:
    """The `Clock` of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class DeadlineTimer:
    """Calls `on_timeout` when a deadline passes that was neither cleared nor moved. Belongs to one event loop.

    Streams set a deadline for every piece, and a new event-loop timer each time would cost more than sending the
    piece. So one timer keeps running, and is compared with the latest deadline only when it fires.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._on_timeout = on_timeout
        self._loop = asyncio.get_running_loop()
        self._due_s: float | None = None
        self._timer: asyncio.Handle | None = None
        # Not `TimerHandle.when`: for a time that is less than a millisecond away, uvloop returns a handle without it.
        self._fires_at_s = 0.0

    def set(self, wait_s: float) -> None:
        """Set the deadline to `wait_s` seconds from now, in place of any earlier one."""
        self._due_s = self._loop.time() + wait_s
        if self._timer is None or self._fires_at_s > self._due_s:
            self._start(self._due_s)

    def clear(self) -> None:
        """Remove the deadline. The event-loop timer keeps running, for the next `set`."""
        self._due_s = None

    def cancel(self) -> None:
        """Stop the event-loop timer. `on_timeout` is not called before the next `set`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, due_s: float) -> None:
        self.cancel()
        self._timer = self._loop.call_at(due_s, self._fire)
        self._fires_at_s = due_s

    def _fire(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() >= self._due_s:
            self._due_s = None
            self._on_timeout()
        else:
            self._start(self._due_s)
