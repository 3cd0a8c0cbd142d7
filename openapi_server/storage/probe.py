"""Whether the store can be written to now, asked as often as anybody likes and tried once in a while."""

from __future__ import annotations

import asyncio

import structlog

from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import Clock, Store

# How long a result counts. Whoever polls `/ready` cannot make the server write more often.
PROBE_INTERVAL_S = 2.0
# How long a caller waits. A store that takes longer cannot serve turns either.
PROBE_TIMEOUT_S = 3.0

log = structlog.get_logger(__name__)


class StoreProbe:
    """Tries the store with `Store.ping`, one attempt at a time, and remembers the result for `PROBE_INTERVAL_S`."""

    def __init__(self, store: Store, clock: Clock, timeout_s: float = PROBE_TIMEOUT_S) -> None:
        self._store = store
        self._clock = clock
        self._timeout_s = timeout_s
        self._attempt: asyncio.Task[None] | None = None
        self._ended_s: float | None = None
        self._is_up = True

    async def check(self) -> None:
        """Raise `StoreUnavailable` unless the store could be written to a moment ago, and answers in time."""
        if self._ended_s is None or self._clock.monotonic() >= self._ended_s + PROBE_INTERVAL_S:
            await self._try_once()
        if not self._is_up:
            raise StoreUnavailable(retry_after_s=2)

    async def _try_once(self) -> None:
        """Wait for the attempt that runs, or start one. An attempt that takes too long goes on, and is not repeated."""
        if self._attempt is None:
            self._attempt = asyncio.create_task(self._run())
        await asyncio.wait((self._attempt,), timeout=self._timeout_s)
        if self._attempt is not None:
            self._record(is_up=False, reason="no answer in time")

    async def _run(self) -> None:
        try:
            await self._store.ping()
        except StoreUnavailable:
            self._record(is_up=False, reason="cannot be written to")
        else:
            self._record(is_up=True)
        finally:
            self._attempt = None

    def _record(self, *, is_up: bool, reason: str | None = None) -> None:
        if is_up != self._is_up:
            # Once for each change: the store's own log line says more.
            if is_up:
                log.info("store_up")
            else:
                log.error("store_down", reason=reason)
        self._is_up = is_up
        self._ended_s = self._clock.monotonic()

    async def close(self) -> None:
        """Wait for the attempt that runs: its thread would use a store that is closed."""
        if self._attempt is not None:
            await asyncio.wait((self._attempt,))
