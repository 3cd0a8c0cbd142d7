"""The server forgets by itself: at its start, every hour, and whatever the store does meanwhile."""

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
from openapi_server.storage.sqlite.store import SqliteStore
from tests.support.examples import make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock, UnreliableStore

DAY_S = 86_400


@dataclass
class House:
    """What is swept, by whom."""

    store: SqliteStore
    away: UnreliableStore
    audit: SqliteAudit
    clock: FakeClock
    sweeper: RetentionJob

    async def talk(self, session_id: str, ttl_s: int) -> None:
        session = replace(make_session(session_id, at=self.clock.now()), ttl_s=ttl_s)
        turn = make_turn(f"turn_{session_id}", session_id, at=self.clock.now())
        await self.store.begin_turn(turn, session)
        await self.store.settle_turn(turn.turn_id, make_outcome(at=self.clock.now()))

    async def is_swept(self) -> None:
        """Returns once nothing is left that is over."""
        async with asyncio.timeout(5):
            while await self.store.count_expired_sessions():  # noqa: ASYNC110  # a store has no event for us
                await asyncio.sleep(0.001)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock, timedelta(days=30))
    away, audit = UnreliableStore(store), SqliteAudit(store.connections)
    sweeper = RetentionJob(cast(Store, away), audit, clock, timedelta(days=365), interval_s=0.01)
    yield House(store, away, audit, clock, sweeper)
    await sweeper.close()
    await store.close()


async def test_a_sweep_deletes_what_is_over_what_is_too_old_and_old_deeds(house: House) -> None:
    """And says how much of the first two; nothing else is touched."""
    await house.audit.record(AuditEntry(house.clock.now(), AuditAction.LOGIN, Actor("user", "mia"), "mia"))
    await house.talk("sess_over", ttl_s=1)
    await house.talk("sess_long", ttl_s=3650 * DAY_S)
    house.clock.advance(29 * DAY_S)
    await house.store.begin_turn(make_turn("turn_young", "sess_long", at=house.clock.now()))
    house.clock.advance(DAY_S)

    with structlog.testing.capture_logs() as lines:
        await house.sweeper.run_once()
    told = [line["event"] for line in lines]
    assert told == ["Cleaned up 1 expired sessions", "Forgot 1 turns that are too old to be kept"]
    assert await house.store.get_turn("turn_young") is not None
    assert len((await house.audit.list_entries(10)).items) == 1

    house.clock.advance(336 * DAY_S)
    await house.sweeper.run_once()
    assert (await house.audit.list_entries(10)).items == ()


async def test_more_than_a_batch_is_swept_in_one_go(house: House) -> None:
    """With a pause after each, in which others write."""
    for number in range(BATCH_SIZE + 1):
        await house.talk(f"sess_{number}", ttl_s=1)
    house.clock.advance(1)

    await house.sweeper.run_once()

    assert await house.store.count_expired_sessions() == 0


async def test_the_server_sweeps_at_its_start_and_then_again(house: House) -> None:
    """Nobody has to run a command."""
    await house.talk("sess_a", ttl_s=1)
    house.clock.advance(1)
    house.sweeper.start()
    await house.is_swept()

    await house.talk("sess_b", ttl_s=1)
    house.clock.advance(1)
    await house.is_swept()


async def test_a_store_that_is_away_is_swept_when_it_is_back(house: House) -> None:
    """The sweeper says so, and lives."""
    await house.talk("sess_a", ttl_s=1)
    house.clock.advance(1)
    house.away.is_away = True
    with structlog.testing.capture_logs() as lines:
        house.sweeper.start()
        async with asyncio.timeout(5):
            while {"event": "not_swept", "log_level": "warning"} not in lines:  # noqa: ASYNC110  # nor has a log
                await asyncio.sleep(0.001)
    assert await house.store.count_expired_sessions() == 1

    house.away.is_away = False
    await house.is_swept()
