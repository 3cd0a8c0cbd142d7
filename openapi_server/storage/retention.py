"""The hourly retention job: deletes expired sessions, old turns and old audit entries, and vacuums the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import AuditTrail, Clock, Store

INTERVAL_S = 3600.0
# The writes of the turns wait for every batch, and about half a second while so many bytes are vacuumed.
BATCH_SIZE, PAUSE_S = 200, 0.05
MAX_VACUUM_BYTES = 64 * 1024 * 1024

log = structlog.get_logger(__name__)


class RetentionJob:
    """Runs when the server starts and every hour. `audit_retention`: how long entries stay in the audit trail."""

    def __init__(
        self, store: Store, audit: AuditTrail, clock: Clock, audit_retention: timedelta, interval_s: float = INTERVAL_S
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._audit_retention = audit_retention
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the job, without waiting for its first run."""
        self._task = asyncio.create_task(self._run_forever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def run_once(self) -> None:
        """Delete what no reader may see any more, and the copies of it in the store's files."""
        sessions = await _repeat(self._store.delete_expired_sessions)
        turns = await _repeat(self._store.delete_old_turns)
        await _repeat(self._delete_old_audit_entries)
        is_vacuumed = await self._store.vacuum(MAX_VACUUM_BYTES)
        if sessions:
            log.info(f"Cleaned up {sessions} expired sessions")
        if turns:
            log.info("old_turns_deleted", turns=turns)
        if not is_vacuumed:
            # Not an error: a reader was in the way, or the store is so large that an operator should choose the time.
            log.info("store_not_vacuumed", remedy="zoochat sessions purge")

    async def _run_forever(self) -> None:
        while True:
            try:
                await self.run_once()
            except StoreUnavailable:
                log.warning("retention_job_failed")
            await asyncio.sleep(self._interval_s)

    async def _delete_old_audit_entries(self, limit: int) -> int:
        return await self._audit.delete_before(self._clock.now() - self._audit_retention, limit)


async def _repeat(step: Callable[[int], Awaitable[int]]) -> int:
    """Repeat the step until a batch is not full. Returns how much was deleted."""
    deleted = await step(BATCH_SIZE)
    last = deleted
    while last == BATCH_SIZE:
        await asyncio.sleep(PAUSE_S)
        last = await step(BATCH_SIZE)
        deleted += last
    return deleted
