"""The event log in a real Redis: what the contract of all logs does not say, and what goes wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from redis.asyncio import Redis

from openapi_server.config import ConfigError
from openapi_server.event_logs.redis.connections import Connections
from openapi_server.event_logs.redis.entry_format import FORMAT, encode_entry
from openapi_server.event_logs.redis.log import RedisEventLog, open_redis_log
from openapi_server.models.errors import Interrupted, ProviderFailed
from openapi_server.models.ids import make_id
from openapi_server.models.turn_events import Chunk, Entry, Failed
from openapi_server.protocols import EntryAhead, HistoryLost, LogUnavailable, Signal, Tail
from tests.support.examples import COMPLETED, NOON, STARTED, TURN_ID
from tests.support.fakes import FakeClock
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer, require_redis
from tests.support.timing import poll_until

PATIENCE_S = 20.0
LEASE_S = 30.0
INTERRUPTED = Failed(Interrupted().problem)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    require_redis()
    server = RedisServer(tmp_path)
    try:
        await server.wait_until_ready()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def open_log(
    url: str, prefix: str, worker: str = "here/1/a", clock: FakeClock | None = None, window_s: float = 600
) -> AsyncIterator[RedisEventLog]:
    connections = Connections(url)
    log = RedisEventLog(
        connections, clock or FakeClock(), worker, prefix=prefix, gather_s=0, lease_s=LEASE_S, replay_window_s=window_s
    )
    async with open_redis_log(connections, log):
        yield log


@asynccontextmanager
async def open_two(url: str) -> AsyncIterator[tuple[RedisEventLog, RedisEventLog, str]]:
    """The logs of two processes, and the prefix of their keys."""
    prefix = make_id("test")
    async with open_log(url, prefix, "here/1/a") as here, open_log(url, prefix, "there/2/b") as there:
        yield here, there, prefix


async def write(log: RedisEventLog, *events: object, turn_id: str = TURN_ID) -> None:
    await log.append(turn_id, list(events))  # type: ignore[arg-type]
    assert await log.flush(PATIENCE_S)


async def begin(log: RedisEventLog, pieces: int = 3, turn_id: str = TURN_ID) -> None:
    await log.create(turn_id)
    await write(log, STARTED, *(Chunk(number, f"piece {number} ") for number in range(1, pieces + 1)), turn_id=turn_id)


async def open_tail(log: RedisEventLog, after: int = 0) -> Tail:
    tail = await log.open_tail(TURN_ID, after)
    assert tail is not None
    return tail


async def read_to_end(tail: Tail) -> list[Entry]:
    got: list[Entry] = []
    async with asyncio.timeout(PATIENCE_S):
        while not tail.is_over:
            got += await tail.read(PATIENCE_S)
    return got


def list_seqs(entries: Sequence[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


async def test_many_readers_elsewhere_share_one_subscription(redis_url: str) -> None:
    """Which is given up with the last of them."""
    async with open_two(redis_url) as (here, there, _):
        await begin(here)
        tails = [await open_tail(there) for _ in range(50)]
        assert there.mirrors.subscription.channel_count == 2
        reading = [asyncio.ensure_future(read_to_end(tail)) for tail in tails]
        await write(here, Chunk(4, "more"), COMPLETED)
        assert [list_seqs(got) for got in await asyncio.gather(*reading)] == [[1, 2, 3, 4, 5, 6]] * 50
        for tail in tails:
            tail.close()
            tail.close()
        assert there.mirrors.count == 0

        async def is_unsubscribed() -> bool:
            return there.mirrors.subscription.channel_count == 1

        assert await poll_until(is_unsubscribed, PATIENCE_S) < PATIENCE_S


async def test_a_reader_that_is_cancelled_leaves_no_trace(redis_url: str) -> None:
    """At any moment while it attaches: the others read on, and nothing is kept."""
    async with open_two(redis_url) as (here, there, _):
        await begin(here)
        for steps in range(40):
            opening = asyncio.ensure_future(there.open_tail(TURN_ID))
            for _ in range(steps):
                await asyncio.sleep(0)
            opening.cancel()
            (tail,) = await asyncio.gather(opening, return_exceptions=True)
            if not isinstance(tail, BaseException) and tail is not None:
                tail.close()
        assert there.mirrors.count == 0
        stays = await open_tail(there)
        await write(here, COMPLETED)
        assert list_seqs(await read_to_end(stays)) == [1, 2, 3, 4, 5]


async def test_a_gap_in_what_was_published_is_read_from_the_stream(redis_url: str) -> None:
    """And a message that comes twice is dropped."""
    async with open_two(redis_url) as (here, there, prefix), Redis.from_url(redis_url) as client:
        await begin(here)
        tail = await open_tail(there)
        assert list_seqs(await tail.read(PATIENCE_S)) == [1, 2, 3, 4]
        channel = f"{prefix}:{{{TURN_ID}}}:live"
        lost = encode_entry(NOON, Chunk(9, "out of order"))
        await client.publish(channel, b"entries 9\n" + lost)
        await client.publish(channel, b"entries 2\n" + lost + b"\n" + lost)
        await write(here, Chunk(4, "next"))
        await client.publish(channel, b"entries 5\n" + lost)
        await write(here, COMPLETED)
        rest = await read_to_end(tail)
        assert [entry.event for entry in rest] == [Chunk(4, "next"), COMPLETED]


@pytest.mark.parametrize("harm", ["flush", "trim", "expire stream", "earlier state", "entry deleted"])
async def test_the_owner_writes_again_what_redis_has_lost(redis_url: str, harm: str) -> None:
    """With the same numbers, so that nobody gets an entry twice or misses one."""
    async with open_two(redis_url) as (here, there, prefix), Redis.from_url(redis_url) as client:
        await begin(here)
        early = await open_tail(there)
        events, state = f"{prefix}:{{{TURN_ID}}}:events", f"{prefix}:{{{TURN_ID}}}:state"
        match harm:
            case "flush":
                await client.delete(events, state)
            case "trim":
                await client.xtrim(events, maxlen=1, approximate=False)
            case "expire stream":
                await client.delete(events)
            case "earlier state":
                await client.xdel(events, "4-0")
                # Without it, Redis would not take the number again; the owner then writes all of it anew.
                await client.execute_command("XSETID", events, "3-0")  # type: ignore[no-untyped-call]
            case "entry deleted":
                await client.xdel(events, "4-0")
                await client.hset(state, "last", "3")
        await write(here, Chunk(4, "next"), Chunk(5, "and on"))
        late = await open_tail(there, 2)
        await write(here, COMPLETED)
        assert list_seqs(await read_to_end(early)) == [1, 2, 3, 4, 5, 6, 7]
        assert list_seqs(await read_to_end(late)) == [3, 4, 5, 6, 7]


async def test_a_log_that_lost_entries_is_named(redis_url: str) -> None:
    """Until the owner has written it again. Nobody gets it from the start on top of what was shown."""
    async with open_two(redis_url) as (here, there, prefix), Redis.from_url(redis_url) as client:
        await begin(here)
        await client.xtrim(f"{prefix}:{{{TURN_ID}}}:events", maxlen=2, approximate=False)
        with pytest.raises(HistoryLost):
            await there.open_tail(TURN_ID, 3)
        with pytest.raises(HistoryLost):
            await there.list_entries(TURN_ID)
        here.renew([TURN_ID])
        assert await here.flush(PATIENCE_S)
        assert list_seqs(await there.list_entries(TURN_ID) or ()) == [1, 2, 3, 4]


async def test_a_log_is_not_begun_anew_when_the_store_may_have_given_the_turn_away(redis_url: str) -> None:
    """A process that slept past its lease asks the store first; then it is fenced, or goes on."""
    clock, prefix = FakeClock(), make_id("test")
    async with (
        open_log(redis_url, prefix, "here/1/a", clock) as here,
        open_log(redis_url, prefix, "there/2/b") as there,
        Redis.from_url(redis_url) as client,
    ):
        await begin(here)
        clock.advance(LEASE_S)
        await client.delete(f"{prefix}:{{{TURN_ID}}}:events", f"{prefix}:{{{TURN_ID}}}:state")
        await write(here, Chunk(4, "late"))
        assert await there.list_entries(TURN_ID) is None
        here.renew([TURN_ID])
        assert await here.flush(PATIENCE_S)
        assert list_seqs(await there.list_entries(TURN_ID) or ()) == [1, 2, 3, 4, 5]


async def test_a_log_that_was_taken_over_is_fenced(redis_url: str) -> None:
    """Its owner hears so and writes nothing more; the ending has no number, and is the same for everybody."""
    async with open_two(redis_url) as (here, there, prefix):
        signals: list[tuple[Signal, str]] = []
        here.listen(lambda kind, turn_id: signals.append((kind, turn_id)))
        await begin(here)
        tail = await open_tail(there)
        await there.end(TURN_ID, INTERRUPTED)
        await there.end(TURN_ID, Failed(ProviderFailed().problem))
        assert list_seqs(await read_to_end(tail)) == [1, 2, 3, 4]
        assert tail.ending == INTERRUPTED

        await write(here, Chunk(4, "late"))
        assert signals == [(Signal.FENCED, TURN_ID)]
        await write(here, COMPLETED)
        assert list_seqs(await there.list_entries(TURN_ID) or ()) == [1, 2, 3, 4]
        again = await open_tail(there, 2)
        assert list_seqs(await read_to_end(again)) == [3, 4]
        assert again.ending == INTERRUPTED
        async with open_log(redis_url, prefix, "elsewhere/3/c") as elsewhere:
            # Readers of the dead process may have seen more than Redis has.
            for after in (4, 5, 500):
                with pytest.raises(HistoryLost):
                    await elsewhere.open_tail(TURN_ID, after)


async def test_a_position_that_a_dead_process_gave_is_waited_for(redis_url: str) -> None:
    """While its lease runs nobody knows how the turn ends. A position that a living one never gave is refused."""
    prefix = make_id("test")
    async with open_log(redis_url, prefix, "there/2/b") as there:
        async with open_log(redis_url, prefix, "here/1/a") as here:
            await begin(here)
            with pytest.raises(EntryAhead):
                await there.open_tail(TURN_ID, 6)
        tail = await open_tail(there, 6)
        assert not tail.is_over
        await there.end(TURN_ID, INTERRUPTED)
        assert await read_to_end(tail) == []
        assert tail.ending == INTERRUPTED


async def test_a_deleted_log_stays_deleted(redis_url: str) -> None:
    """Whoever deletes it: readers are told, the owner stops, and nothing of it is left or comes back."""
    async with open_two(redis_url) as (here, there, prefix), Redis.from_url(redis_url) as client:
        signals: list[tuple[Signal, str]] = []
        here.listen(lambda kind, turn_id: signals.append((kind, turn_id)))
        await begin(here)
        tail = await open_tail(there)
        await there.delete(TURN_ID)
        await read_to_end(tail)
        assert tail.ending is not None
        assert tail.ending.problem.code == "session_deleted"
        await write(here, Chunk(4, "late"))
        here.renew([TURN_ID])
        assert await here.flush(PATIENCE_S)
        assert (Signal.DELETE, TURN_ID) in signals
        assert await client.keys(f"{prefix}:*") == [f"{prefix}:{{{TURN_ID}}}:state".encode()]
        assert await there.open_tail(TURN_ID) is None


async def test_signals_reach_the_process_that_runs_the_turn(redis_url: str) -> None:
    """Whoever sends one learns whether anybody hears it."""
    async with open_two(redis_url) as (here, there, _):
        signals: list[tuple[Signal, str]] = []
        has_come = asyncio.Event()

        def note(kind: Signal, turn_id: str) -> None:
            signals.append((kind, turn_id))
            has_come.set()

        here.listen(note)
        await begin(here)
        assert await there.signal(TURN_ID, Signal.STOP)
        await asyncio.wait_for(has_come.wait(), PATIENCE_S)
        assert signals == [(Signal.STOP, TURN_ID)]
        assert not await there.signal("turn_of_nobody", Signal.STOP)


async def test_keys_expire_and_a_renewed_lease_keeps_them(redis_url: str) -> None:
    """A running turn's after four leases, however quiet it is; a finished one's after the replay window."""
    async with open_two(redis_url) as (here, _, prefix), Redis.from_url(redis_url) as client:
        keys = [f"{prefix}:{{{TURN_ID}}}:events", f"{prefix}:{{{TURN_ID}}}:state"]
        await begin(here)
        assert [110 < await client.ttl(key) <= 120 for key in keys] == [True, True]
        for key in keys:
            await client.expire(key, 5)
        here.renew([TURN_ID])
        assert await here.flush(PATIENCE_S)
        assert [110 < await client.ttl(key) <= 120 for key in keys] == [True, True]
        await write(here, COMPLETED)
        assert [590 < await client.ttl(key) <= 600 for key in keys] == [True, True]


async def test_a_newer_format_is_named(redis_url: str) -> None:
    """A reader that is attached is told to poll; a new one, too."""
    async with open_two(redis_url) as (here, there, prefix), Redis.from_url(redis_url) as client:
        await begin(here)
        tail = await open_tail(there)
        newer = encode_entry(NOON, Chunk(4, "in other words"), FORMAT + 1)
        await client.xadd(f"{prefix}:{{{TURN_ID}}}:events", {"e": newer}, id="5-0")
        await client.hset(f"{prefix}:{{{TURN_ID}}}:state", "last", "5")
        await client.publish(f"{prefix}:{{{TURN_ID}}}:live", b"entries 5\n" + newer)
        assert list_seqs(await read_to_end(tail)) == [1, 2, 3, 4]
        assert tail.ending is not None
        assert tail.ending.problem.code == "turn_elsewhere"
        tail.close()
        with pytest.raises(LogUnavailable):
            await there.open_tail(TURN_ID)


async def test_without_redis_a_process_writes_and_reads_its_own_turns(redis: RedisServer) -> None:
    """One line says that it is away, and one that it is back; then others can read all of it."""
    async with open_two(redis.url) as (here, there, _):
        await begin(here)
        attached = await open_tail(there)
        with structlog.testing.capture_logs() as logs:
            redis.stop()
            for number in range(4, 30):
                await here.append(TURN_ID, [Chunk(number, "still here ")])
            assert list_seqs(await here.list_entries(TURN_ID) or ()) == list(range(1, 31))
            own = await open_tail(here, 20)
            assert list_seqs(await own.read(0)) == list(range(21, 31))

            async def is_refused() -> bool:
                try:
                    await there.list_entries("turn_of_somebody_else")
                except LogUnavailable:
                    return True
                return False

            assert await poll_until(is_refused, PATIENCE_S) < PATIENCE_S
            redis.start()
            await redis.wait_until_ready()
            await here.append(TURN_ID, [COMPLETED])
            assert list_seqs(await read_to_end(attached)) == list(range(1, 32))
        told = [line["event"] for line in logs if line["event"] in ("event_log_away", "event_log_back")]
        assert told == ["event_log_away", "event_log_back"]


async def test_a_redis_that_hangs_holds_nobody_up_here(redis: RedisServer) -> None:
    """Appends and own readers go on at once; what was sent twice is there once."""
    async with open_two(redis.url) as (here, there, _):
        await begin(here)
        redis.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(1):
            for number in range(4, 104):
                await here.append(TURN_ID, [Chunk(number, "on ")])
            assert len(await here.list_entries(TURN_ID) or ()) == 104
        # Longer than a command may take: it is sent again.
        assert not await here.flush(3)
        redis.process.send_signal(signal.SIGCONT)
        await here.append(TURN_ID, [COMPLETED])

        async def is_complete() -> bool:
            try:
                return list_seqs(await there.list_entries(TURN_ID) or ()) == list(range(1, 106))
            except LogUnavailable:
                return False

        assert await poll_until(is_complete, PATIENCE_S) < PATIENCE_S


async def test_a_redis_that_takes_no_writes_is_met_by_patience(redis: RedisServer) -> None:
    """Its memory is full, or it has become a replica: all arrives when it takes writes again."""
    async with open_two(redis.url) as (here, there, _), Redis.from_url(redis.url) as client:
        await begin(here)
        for refuse, allow in (
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            (("REPLICAOF", "127.0.0.1", "9"), ("REPLICAOF", "NO", "ONE")),
        ):
            await client.execute_command(*refuse)  # type: ignore[no-untyped-call]
            await here.append(TURN_ID, [Chunk(9, "more ")])
            assert not await here.flush(0.5)
            await client.execute_command(*allow)  # type: ignore[no-untyped-call]
            assert await here.flush(PATIENCE_S)
        assert await there.list_entries(TURN_ID) == await here.list_entries(TURN_ID)


async def test_a_reader_that_redis_cuts_off_reads_on(redis: RedisServer) -> None:
    """As it does with those that read too slowly, beyond the limit of its output buffer."""
    async with open_two(redis.url) as (here, there, _), Redis.from_url(redis.url) as client:
        await begin(here)
        tail = await open_tail(there)
        for number in range(4, 40):
            if number % 12 == 0:
                await client.client_kill_filter(_type="pubsub")
            await write(here, Chunk(number, "on "))
        await write(here, COMPLETED)
        assert list_seqs(await read_to_end(tail)) == list(range(1, 42))


async def test_a_wrong_password_stops_the_start(redis: RedisServer) -> None:
    """In a sentence that names the setting and shows no password; so does a database that there is not."""
    with pytest.raises(ConfigError, match=r"REDIS_URL: .* has no database"):
        async with open_log(redis.url.replace("/0", "/99"), "zoo"):
            pass
    async with Redis.from_url(redis.url) as client:
        await client.config_set("requirepass", "quagga")
    for url in (redis.url, redis.url.replace("127", ":zebra@127")):
        with pytest.raises(ConfigError, match=r"REDIS_URL: .* refuses the user name or the password") as refusal:
            async with open_log(url, "zoo"):
                pass
        assert "zebra" not in str(refusal.value)
    async with open_log(redis.url.replace("127", ":quagga@127"), "zoo") as log:
        assert log.is_shared


async def test_a_redis_that_may_evict_is_warned_of(redis: RedisServer) -> None:
    """By the name of the policy and of the setting. One that is away is said, and the server starts."""
    async with Redis.from_url(redis.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
    with structlog.testing.capture_logs() as logs:
        async with open_log(redis.url, "zoo"):
            pass
    (line,) = [line for line in logs if line["event"] == "event_log_may_be_evicted"]
    assert all(word in line["detail"] for word in ("REDIS_URL", "allkeys-lru", "noeviction"))

    redis.stop()
    with structlog.testing.capture_logs() as logs:
        async with open_log(redis.url, "zoo") as log:
            await begin_unsent(log)
    assert "event_log_away" in [line["event"] for line in logs]


async def begin_unsent(log: RedisEventLog) -> None:
    await log.create(TURN_ID)
    await log.append(TURN_ID, [STARTED, COMPLETED])
    assert list_seqs(await log.list_entries(TURN_ID) or ()) == [1, 2]


def test_a_server_that_shares_nothing_does_not_load_the_library() -> None:
    """It costs memory and a tenth of a second."""
    program = "import sys, openapi_server.server; print([name for name in sys.modules if name.startswith('redis')])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
