"""Sweeping: a server forgets by itself what is over or too old, off the path of any request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import AuditTrail, Clock, Store

INTERVAL_S = 3600.0
# Every batch keeps the turns' writes waiting; so does whoever copies so much, for about half a second.
BATCH_SIZE, PAUSE_S = 200, 0.05
MAX_VACUUM_BYTES = 64 * 1024 * 1024

log = structlog.get_logger(__name__)


class RetentionJob:
    """Sweeps when the server starts, and every hour. `audit_kept`: how long deeds stay in the audit trail."""

    def __init__(
        self, store: Store, audit: AuditTrail, clock: Clock, audit_kept: timedelta, interval_s: float = INTERVAL_S
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._audit_kept = audit_kept
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, without waiting for the first sweep."""
        self._task = asyncio.create_task(self._run_forever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def run_once(self) -> None:
        """Delete what nobody may read any more, and the copies of it that the store still has."""
        sessions = await _repeat(self._store.delete_expired_sessions)
        turns = await _repeat(self._store.delete_old_turns)
        await _repeat(self._delete_old_audit_entries)
        is_tidy = await self._store.vacuum(MAX_VACUUM_BYTES)
        if sessions:
            log.info(f"Cleaned up {sessions} expired sessions")
        if turns:
            log.info(f"Forgot {turns} turns that are too old to be kept")
        if not is_tidy:
            # Nothing is wrong: a reader was in the way, or the store is so large that an operator chooses the hour.
            log.info("store_not_tidied", remedy="zoochat sessions purge")

    async def _run_forever(self) -> None:
        while True:
            try:
                await self.run_once()
            except StoreUnavailable:
                log.warning("not_swept")
            await asyncio.sleep(self._interval_s)

    async def _delete_old_audit_entries(self, limit: int) -> int:
        return await self._audit.delete_before(self._clock.now() - self._audit_kept, limit)


async def _repeat(step: Callable[[int], Awaitable[int]]) -> int:
    """Take the step until there is nothing left for it; how much there was."""
    done = await step(BATCH_SIZE)
    last = done
    while last == BATCH_SIZE:
        await asyncio.sleep(PAUSE_S)
        last = await step(BATCH_SIZE)
        done += last
    return done
