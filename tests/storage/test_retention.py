"""The retention job: at the start, every hour, and when the store is unavailable for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import structlog

from openapi_server.models.audit import Actor, AuditAction, AuditEntry
from openapi_server.protocols import Store
from openapi_server.storage.retention import BATCH_SIZE, RetentionJob
from openapi_server.storage.sqlite.audit import SqliteAudit
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock, UnreliableStore

DAY_S = 86_400


@dataclass
class RetentionFixture:
    """A store with a retention job over it. `unreliable` stands between the two."""

    store: SqliteStore
    unreliable: UnreliableStore
    audit: SqliteAudit
    clock: FakeClock
    job: RetentionJob

    async def add_session(self, session_id: str, ttl_s: int) -> None:
        session = replace(make_session(session_id, at=self.clock.now()), ttl_s=ttl_s)
        turn = make_turn(f"turn_{session_id}", session_id, at=self.clock.now())
        await self.store.begin_turn(turn, session)
        await self.store.settle_turn(turn.turn_id, make_outcome(at=self.clock.now()))

    async def wait_until_empty(self) -> None:
        """Return once no expired session is left."""
        async with asyncio.timeout(5):
            while await self.store.count_expired_sessions():  # noqa: ASYNC110  # a store has no event for us
                await asyncio.sleep(0.001)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[RetentionFixture]:
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock, timedelta(days=30))
    unreliable, audit = UnreliableStore(store), SqliteAudit(store.connections)
    job = RetentionJob(cast(Store, unreliable), audit, clock, timedelta(days=365), interval_s=0.01)
    yield RetentionFixture(store, unreliable, audit, clock, job)
    await job.close()
    await store.close()


async def test_a_run_deletes_expired_sessions_old_turns_and_old_audit_entries(parts: RetentionFixture) -> None:
    """The log says how many of the first two; nothing else is touched."""
    await parts.audit.record(AuditEntry(parts.clock.now(), AuditAction.LOGIN, Actor("user", "mia"), "mia"))
    await parts.add_session("sess_over", ttl_s=1)
    await parts.add_session("sess_long", ttl_s=3650 * DAY_S)
    parts.clock.advance(29 * DAY_S)
    await parts.store.begin_turn(make_turn("turn_young", "sess_long", at=parts.clock.now()))
    parts.clock.advance(DAY_S)

    with structlog.testing.capture_logs() as lines:
        await parts.job.run_once()
    events = [line["event"] for line in lines]
    assert events == ["Cleaned up 1 expired sessions", "old_turns_deleted"]
    assert lines[1]["turns"] == 1
    assert await parts.store.get_turn("turn_young") is not None
    assert len((await parts.audit.list_entries(10)).items) == 1

    parts.clock.advance(336 * DAY_S)
    await parts.job.run_once()
    assert (await parts.audit.list_entries(10)).items == ()


async def test_more_than_a_batch_is_deleted_in_one_run(parts: RetentionFixture) -> None:
    """With a pause after each, in which others write."""
    for number in range(BATCH_SIZE + 1):
        await parts.add_session(f"sess_{number}", ttl_s=1)
    parts.clock.advance(1)

    await parts.job.run_once()

    assert await parts.store.count_expired_sessions() == 0


async def test_the_job_runs_at_the_start_and_then_again(parts: RetentionFixture) -> None:
    """Nobody has to run a command."""
    await parts.add_session("sess_a", ttl_s=1)
    parts.clock.advance(1)
    parts.job.start()
    await parts.wait_until_empty()

    await parts.add_session("sess_b", ttl_s=1)
    parts.clock.advance(1)
    await parts.wait_until_empty()


async def test_an_unavailable_store_is_cleaned_when_it_is_back(parts: RetentionFixture) -> None:
    """The failure is logged, and the job goes on."""
    await parts.add_session("sess_a", ttl_s=1)
    parts.clock.advance(1)
    parts.unreliable.is_away = True
    with structlog.testing.capture_logs() as lines:
        parts.job.start()
        async with asyncio.timeout(5):
            while {"event": "retention_job_failed", "log_level": "warning"} not in lines:  # noqa: ASYNC110  # nor has a log
                await asyncio.sleep(0.001)
    assert await parts.store.count_expired_sessions() == 1

    parts.unreliable.is_away = False
    await parts.wait_until_empty()
