"""Sweeping: a server forgets by itself what is over or too old, off the path of any request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import AuditTrail, Clock, Store

EVERY_S = 3600.0
# Every batch keeps the turns' writes waiting; so does whoever copies so much, for about half a second.
BATCH, PAUSE_S = 200, 0.05
TIDIED_BYTES = 64 * 1024 * 1024

log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps when the server starts, and every hour. `audit_kept`: how long deeds stay in the audit trail."""

    def __init__(
        self, store: Store, audit: AuditTrail, clock: Clock, audit_kept: timedelta, every_s: float = EVERY_S
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._audit_kept = audit_kept
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin, without waiting for the first sweep."""
        self._task = asyncio.create_task(self._sweep_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def sweep(self) -> None:
        """Delete what nobody may read any more, and the copies of it that the store still has."""
        sessions = await _all(self._store.purge_expired_sessions)
        turns = await _all(self._store.forget_old_turns)
        await _all(self._drop_old_deeds)
        is_tidy = await self._store.tidy(TIDIED_BYTES)
        if sessions:
            log.info(f"Cleaned up {sessions} expired sessions")
        if turns:
            log.info(f"Forgot {turns} turns that are too old to be kept")
        if not is_tidy:
            # Nothing is wrong: a reader was in the way, or the store is so large that an operator chooses the hour.
            log.info("store_not_tidied", remedy="zoochat sessions purge")

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except StoreUnavailable:
                log.warning("not_swept")
            await asyncio.sleep(self._every_s)

    async def _drop_old_deeds(self, limit: int) -> int:
        return await self._audit.drop_before(self._clock.now() - self._audit_kept, limit)


async def _all(step: Callable[[int], Awaitable[int]]) -> int:
    """Take the step until there is nothing left for it; how much there was."""
    done = await step(BATCH)
    last = done
    while last == BATCH:
        await asyncio.sleep(PAUSE_S)
        last = await step(BATCH)
        done += last
    return done
