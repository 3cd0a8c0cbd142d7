"""Where requests are counted: memory of a bounded size, and a real Redis that may come and go."""

from __future__ import annotations

import asyncio
import signal
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from redis.asyncio import Redis as Client

from openapi_server.cli.doctor import Level, check_provider
from openapi_server.config import ConfigError, load_settings
from openapi_server.http import rate_limit_storage
from openapi_server.http.rate_limit_storage import MAX_KEYS, BoundedMemoryStorage, WindowCounters, open_counters
from tests.support.fakes import FakeClock
from tests.support.redis_server import RedisServer, require_redis

ITEM = RateLimitItemPerMinute(3, namespace="turns")


@pytest.fixture
async def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisServer]:
    require_redis()
    # On a busy machine a quarter of a second is soon over.
    monkeypatch.setattr(rate_limit_storage, "REDIS_TIMEOUT_S", 10)
    server = RedisServer(tmp_path)
    try:
        await server.wait_until_ready()
        yield server
    finally:
        server.stop()


async def hit(counters: WindowCounters, caller: str = "mia", item: RateLimitItem = ITEM) -> bool:
    return (await counters.hit([(item, ("caller", caller)), (item, ("address", "home", caller))])).is_allowed


async def test_memory_is_bounded_whoever_calls() -> None:
    """A tenth of the bound takes 3 MB; as many callers again take no more."""
    share = MAX_KEYS // 10
    counters = WindowCounters(storage := BoundedMemoryStorage(share), FakeClock().monotonic)
    used_mb = []
    tracemalloc.start()
    for number in range(2 * share):
        await counters.hit([(ITEM, (f"{number:024}",))])
        if number + 1 in (share, 2 * share):
            used_mb.append(tracemalloc.get_traced_memory()[0] / 1e6)
    tracemalloc.stop()
    assert len(storage) == share
    assert used_mb[0] < 5
    assert used_mb[1] < used_mb[0] + 0.5


async def test_the_window_that_was_not_used_for_longest_is_forgotten() -> None:
    counters = WindowCounters(storage := BoundedMemoryStorage(max_keys=3), FakeClock().monotonic)
    for caller in ("old", "busy", "new", "busy", "newer"):
        await counters.hit([(ITEM, (caller,))])
    assert [key.split("/")[1] for key in storage._windows] == ["new", "busy", "newer"]
    assert await storage.reset() == 3


async def test_redis_counts_for_several_processes(redis: RedisServer) -> None:
    """Two servers with one Redis share the limit, and its reset time is that of the window."""
    async with (
        open_counters(redis.url, time.monotonic) as one,
        open_counters(redis.url, time.monotonic) as two,
    ):
        assert [await hit(one), await hit(two), await hit(one), await hit(two), await hit(one)] == [True] * 3 + [
            False
        ] * 2
        assert await hit(two, "ben")
        refused = await one.hit([(ITEM, ("caller", "mia"))])
    assert not refused.is_allowed
    assert (refused.windows[0].amount, refused.windows[0].remaining) == (3, 0)
    assert 0 < refused.windows[0].reset_s <= 60


async def test_many_at_once_do_not_get_more_than_the_limit(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # A Redis that takes longer lets requests through, and this machine may be busy.
    monkeypatch.setattr(rate_limit_storage, "REDIS_TIMEOUT_S", 30)
    async with open_counters(redis.url, time.monotonic) as counters:
        allowed = await asyncio.gather(*(hit(counters) for _ in range(40)))
    assert sum(allowed) <= 3


async def test_without_redis_requests_are_let_through_and_it_is_asked_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, started again, and hanging: no request fails or waits long, and one line each time tells of it."""
    monkeypatch.setattr(rate_limit_storage, "REDIS_TIMEOUT_S", 1)
    clock = FakeClock()
    async with open_counters(redis.url, clock.monotonic) as counters:
        assert [await hit(counters) for _ in range(4)] == [True, True, True, False]
        redis.stop()
        with structlog.testing.capture_logs() as logs:
            assert [await hit(counters) for _ in range(20)] == [True] * 20
            clock.advance(6)
            assert await hit(counters)
        assert [line["event"] for line in logs] == ["rate_limit_storage_away"]

        redis.start()
        await redis.wait_until_ready()
        clock.advance(6)
        with structlog.testing.capture_logs() as logs:
            assert [await hit(counters) for _ in range(4)] == [True, True, True, False]
        assert [line["event"] for line in logs] == ["rate_limit_storage_back"]

        redis.process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        assert [await hit(counters) for _ in range(20)] == [True] * 20
        assert time.monotonic() - began_s < 10
        redis.process.send_signal(signal.SIGCONT)
        clock.advance(6)
        # The connection whose answer was given up is not used again: its answer would be taken for the next one's.
        assert [await hit(counters, "ben") for _ in range(4)] == [True, True, True, False]


async def test_redis_may_be_away_at_the_start() -> None:
    async with open_counters("redis://127.0.0.1:9/0", FakeClock().monotonic) as counters:
        assert [await hit(counters) for _ in range(9)] == [True] * 9


async def test_redis_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit_storage, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="RATE_LIMIT_STORAGE"):
        async with open_counters("redis://127.0.0.1:9/0", FakeClock().monotonic):
            pass


def diagnose(url: str) -> tuple[Level, str]:
    """What `zoochat doctor` says of it."""
    found = check_provider(load_settings(rate_limit_storage=url), call_model=False)
    (finding,) = [one for one in found if one.check == "rate limits"]
    assert finding.status is Level.OK or "RATE_LIMIT_STORAGE" in finding.remedy
    return finding.status, finding.detail


async def test_the_doctor_asks_redis(redis: RedisServer) -> None:
    """Whether it answers, and with its password, which is not shown."""
    assert await asyncio.to_thread(diagnose, redis.url) == (Level.OK, f"Redis at 127.0.0.1:{redis.port} answers")

    async with Client.from_url(redis.url) as client:
        await client.config_set("requirepass", "quagga")
    status, detail = await asyncio.to_thread(diagnose, redis.url)
    assert (status, "refuses" in detail) == (Level.PROBLEM, True)
    wrong = redis.url.replace("127", ":zebra@127")
    status, detail = await asyncio.to_thread(diagnose, wrong)
    assert (status, "refuses" in detail, "zebra" in detail) == (Level.PROBLEM, True, False)
    right = redis.url.replace("127", ":quagga@127")
    assert (await asyncio.to_thread(diagnose, right))[0] is Level.OK

    redis.stop()
    status, detail = await asyncio.to_thread(diagnose, right)
    assert (status, "not reachable" in detail) == (Level.PROBLEM, True)


async def test_the_doctor_asks_the_redis_of_the_event_log(redis: RedisServer) -> None:
    """It also warns of one that deletes what it should keep."""

    def find() -> tuple[Level, str]:
        given = load_settings(event_log="redis", redis_url=redis.url)
        (finding,) = [one for one in check_provider(given, call_model=False) if one.check == "event log"]
        return finding.status, finding.detail

    assert await asyncio.to_thread(find) == (Level.OK, f"Redis at 127.0.0.1:{redis.port} answers")
    async with Client.from_url(redis.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
    status, detail = await asyncio.to_thread(find)
    assert (status, "allkeys-lru" in detail) == (Level.WARNING, True)
    redis.stop()
    status, detail = await asyncio.to_thread(find)
    assert (status, "not reachable" in detail) == (Level.PROBLEM, True)


async def test_the_doctor_knows_what_is_no_redis() -> None:
    """Something else listens there."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status, detail = await asyncio.to_thread(diagnose, f"redis://127.0.0.1:{port}/0")

    assert status is Level.PROBLEM
    assert "does not answer as a Redis" in detail
