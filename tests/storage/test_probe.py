"""The probe of the store: it writes seldom, waits briefly, and tells what happened last."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from openapi_server.models.errors import StoreUnavailable
from openapi_server.protocols import Store
from openapi_server.storage.probe import PROBE_INTERVAL_S, StoreProbe
from tests.support.fakes import FakeClock


class PingedStore:
    """The one method of a store that the probe uses."""

    def __init__(self) -> None:
        self.pings = 0
        self.is_up = True
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ping(self) -> None:
        self.pings += 1
        await self.may_answer.wait()
        if not self.is_up:
            raise StoreUnavailable(retry_after_s=2)


def make_probe(store: PingedStore, clock: FakeClock, timeout_s: float = 30) -> StoreProbe:
    return StoreProbe(cast(Store, store), clock, timeout_s)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_stranger_who_polls_causes_one_write(clock: FakeClock) -> None:
    """However many ask, and at once; after the interval the store is tried again."""
    store = PingedStore()
    probe = make_probe(store, clock)

    await asyncio.gather(*(probe.check() for _ in range(100)))
    await probe.check()
    assert store.pings == 1
    clock.advance(PROBE_INTERVAL_S)
    await asyncio.gather(*(probe.check() for _ in range(100)))
    assert store.pings == 2


async def test_it_tells_when_the_store_goes_and_comes(clock: FakeClock) -> None:
    """One log line for each change."""
    store = PingedStore()
    probe = make_probe(store, clock)
    with capture_logs() as lines:
        await probe.check()
        store.is_up = False
        for _ in range(3):
            clock.advance(PROBE_INTERVAL_S)
            with pytest.raises(StoreUnavailable) as refusal:
                await probe.check()
        store.is_up = True
        clock.advance(PROBE_INTERVAL_S)
        await probe.check()

    assert refusal.value.retry_after_s == 2
    assert [line["event"] for line in lines] == ["store_down", "store_up"]


async def test_a_store_that_hangs_is_not_waited_for(clock: FakeClock) -> None:
    """As on a disk of a network that is gone. No further attempt begins beside the one that hangs."""
    store = PingedStore()
    store.may_answer.clear()
    probe = make_probe(store, clock, timeout_s=0.01)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await probe.check()
        clock.advance(PROBE_INTERVAL_S)
    assert store.pings == 1
    store.may_answer.set()
    await probe.close()

    await probe.check()
    clock.advance(PROBE_INTERVAL_S)
    await probe.check()
    assert store.pings == 2
