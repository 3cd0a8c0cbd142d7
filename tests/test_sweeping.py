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

from openapi_server.models.audit import Actor, AuditEntry, Deed
from openapi_server.protocols import Store
from openapi_server.storage.retention import BATCH, Sweeper
from openapi_server.storage.sqlite.audit import SqliteAudit
from openapi_server.storage.sqlite.store import SqliteStore
from tests.examples import a_session, a_turn, an_outcome
from tests.fakes import FakeClock, MayBeAway

DAY_S = 86_400


@dataclass
class House:
    """What is swept, by whom."""

    store: SqliteStore
    away: MayBeAway
    audit: SqliteAudit
    clock: FakeClock
    sweeper: Sweeper

    async def talk(self, session_id: str, ttl_s: int) -> None:
        session = replace(a_session(session_id, at=self.clock.now()), ttl_s=ttl_s)
        turn = a_turn(f"turn_{session_id}", session_id, at=self.clock.now())
        await self.store.begin_turn(turn, session)
        await self.store.settle_turn(turn.turn_id, an_outcome(at=self.clock.now()))

    async def is_swept(self) -> None:
        """Returns once nothing is left that is over."""
        async with asyncio.timeout(5):
            while await self.store.count_expired_sessions():  # noqa: ASYNC110  # a store has no event for us
                await asyncio.sleep(0.001)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock, timedelta(days=30))
    away, audit = MayBeAway(store), SqliteAudit(store.connections)
    sweeper = Sweeper(cast(Store, away), audit, clock, timedelta(days=365), every_s=0.01)
    yield House(store, away, audit, clock, sweeper)
    await sweeper.close()
    await store.close()


async def test_a_sweep_deletes_what_is_over_what_is_too_old_and_old_deeds(house: House) -> None:
    """And says how much of the first two; nothing else is touched."""
    await house.audit.note(AuditEntry(house.clock.now(), Deed.LOGIN, Actor("user", "mia"), "mia"))
    await house.talk("sess_over", ttl_s=1)
    await house.talk("sess_long", ttl_s=3650 * DAY_S)
    house.clock.advance(29 * DAY_S)
    await house.store.begin_turn(a_turn("turn_young", "sess_long", at=house.clock.now()))
    house.clock.advance(DAY_S)

    with structlog.testing.capture_logs() as lines:
        await house.sweeper.sweep()
    told = [line["event"] for line in lines]
    assert told == ["Cleaned up 1 expired sessions", "Forgot 1 turns that are too old to be kept"]
    assert await house.store.turn("turn_young") is not None
    assert len((await house.audit.entries(10)).items) == 1

    house.clock.advance(336 * DAY_S)
    await house.sweeper.sweep()
    assert (await house.audit.entries(10)).items == ()


async def test_more_than_a_batch_is_swept_in_one_go(house: House) -> None:
    """With a pause after each, in which others write."""
    for number in range(BATCH + 1):
        await house.talk(f"sess_{number}", ttl_s=1)
    house.clock.advance(1)

    await house.sweeper.sweep()

    assert await house.store.count_expired_sessions() == 0


async def test_the_server_sweeps_at_its_start_and_then_again(house: House) -> None:
    """Nobody has to run a command."""
    await house.talk("sess_a", ttl_s=1)
    house.clock.advance(1)
    house.sweeper.open()
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
        house.sweeper.open()
        async with asyncio.timeout(5):
            while {"event": "not_swept", "log_level": "warning"} not in lines:  # noqa: ASYNC110  # nor has a log
                await asyncio.sleep(0.001)
    assert await house.store.count_expired_sessions() == 1

    house.away.is_away = False
    await house.is_swept()
