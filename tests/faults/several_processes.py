"""SCALE: turns of one process that are read in another one, while processes and Redis fail."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from redis.asyncio import Redis

from tests.faults.convo_client import ConvoClient, HttpExchange
from tests.faults.figures import Figure, expect_all, expect_at_most, expect_none
from tests.support.processes import ScriptedServer, open_store, run_several, start_scripted
from tests.support.redis_server import RedisServer
from tests.support.scripted_server import Script
from tests.support.timing import poll_until

LEASE_S = 3
TALK = Script(pieces=20, per_s=20)
LONG = Script(pieces=600, per_s=10)
# After how many events the process is killed.
KILL_POINTS = (1, 2, 3, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28)
FEW_KILL_POINTS = (2, 14)


@asynccontextmanager
async def run_processes(folder: Path, count: int) -> AsyncIterator[tuple[list[ScriptedServer], RedisServer]]:
    """Processes over one database and one Redis."""
    redis = RedisServer(folder)
    try:
        await redis.wait_until_ready()
        async with run_several(folder, count, **_make_settings(redis)) as servers:
            yield servers, redis
    finally:
        redis.stop()


def _make_settings(redis: RedisServer) -> dict[str, object]:
    return {"EVENT_LOG": "redis", "REDIS_URL": redis.url, "LEASE": LEASE_S, "ORPHAN_GRACE": 600}


async def read_in_another_process(folder: Path) -> list[Figure]:
    """Attach at every event while the turn runs; stop it there; poll it in a third process."""
    async with run_processes(folder, 3) as (servers, _):
        here, there, third = (ConvoClient(server.port) for server in servers)
        own = await here.post_stream(TALK)
        resumed: list[HttpExchange] = []
        while await own.read_part():
            while len(resumed) < len(own.frames):
                resumed.append(await there.resume_stream(own.turn_id, f"{own.turn_id}-{len(resumed) + 1}"))
        await asyncio.gather(*(exchange.read_to_end() for exchange in resumed))
        exact = sum(exchange.frames == own.frames[seq:] for seq, exchange in enumerate(resumed, 1))
        again = [await there.resume_stream(own.turn_id, f"{own.turn_id}-{seq}") for seq in range(1, len(own.frames))]
        await asyncio.gather(*(exchange.read_to_end() for exchange in again))
        replayed = sum(exchange.frames == own.frames[seq:] for seq, exchange in enumerate(again, 1))

        stopped = await (await here.post_stream(LONG)).read_events(12)
        polled = await third.get_turn(stopped.turn_id)
        answer = await (await there.stop_turn(stopped.turn_id)).read_to_end()
        await stopped.read_to_end()
        same = [await client.get_turn(stopped.turn_id) for client in (here, there, third)]
    is_stopped = answer.json.get("status") == "stopped" and same[0] == same[1] == same[2]
    return [
        expect_all("SCALE", "resumed elsewhere at every event, to the byte", exact, len(resumed)),
        expect_all("SCALE", "replayed elsewhere from every event, to the byte", replayed, len(again)),
        expect_all("SCALE", "polled and stopped from other processes", (polled["status"] == "running") + is_stopped, 2),
    ]


async def kill_owner(folder: Path, points: Sequence[int] = KILL_POINTS) -> list[Figure]:
    """`kill -9` of a turn's process; its reader in the other one hears `interrupted`, once, after what it had."""
    tally: Counter[str] = Counter()
    waits_s: list[float] = []
    async with run_processes(folder, 1) as ((there,), redis):
        reader = ConvoClient(there.port)
        for number, point in enumerate(points):
            here = await start_scripted(folder, **_make_settings(redis))
            own = await ConvoClient(here.port).post_stream(replace(LONG, mark=str(number)))
            elsewhere = await reader.resume_stream(own.turn_id)
            await own.read_events(point)
            await here.stop_in_thread(signal.SIGKILL)
            began_s = time.monotonic()
            await asyncio.gather(own.read_to_end(), elsewhere.read_to_end())
            waits_s.append(time.monotonic() - began_s)
            tally["named"] += elsewhere.body.count(b'"code":"interrupted"') == 1
            common = min(len(own.frames), len(elsewhere.frames))
            tally["differs"] += own.frames[:common] != elsewhere.frames[:common]
            tally["lost"] += max(0, len(own.frames) - len(elsewhere.frames))
            state = await reader.get_turn(own.turn_id)
            tally["settled"] += state["status"] == "failed" and state["error"]["code"] == "interrupted"
        async with open_store(folder) as store:
            tally["running"] = len(await store.list_running_turns())
    count = len(points)
    return [
        expect_all("SCALE", "owner killed: readers elsewhere told `interrupted`, once", tally["named"], count),
        expect_none("SCALE", "owner killed: readers elsewhere with other events", tally["differs"], count),
        expect_all("SCALE", "owner killed: turns settled as interrupted", tally["settled"], count),
        expect_none("SCALE", "owner killed: turns that run for ever", tally["running"], count),
        expect_at_most("SCALE", "owner killed: until the reader elsewhere knew", max(waits_s), LEASE_S, "s"),
        Figure("SCALE", "owner killed: events shown there, not yet here", f"{tally['lost']}", "told", passed=None),
    ]


async def end_process_with_readers(folder: Path, readers: int = 500) -> list[Figure]:
    """SIGTERM to a process that reads turns of another one: each reader waits as told, and goes on there."""
    async with run_processes(folder, 2) as ((here, there), _):
        owner = ConvoClient(here.port)
        own = await (await owner.post_stream(LONG)).read_events(12)
        reading = await asyncio.gather(*(ConvoClient(there.port).resume_stream(own.turn_id) for _ in range(readers)))
        await asyncio.gather(*(exchange.read_events(12) for exchange in reading))
        there.process.send_signal(signal.SIGTERM)
        results = await asyncio.gather(*(_move(exchange, owner) for exchange in reading))
        await owner.stop_turn(own.turn_id)
    waits_ms = sorted(wait_ms for wait_ms, _, _ in results)
    first_s = sorted(took_s for _, took_s, _ in results)
    spread_s = (waits_ms[-1] - waits_ms[0]) / 1000
    return [
        expect_all("SCALE", f"SIGTERM with {readers} readers: exact elsewhere", sum(ok for *_, ok in results), readers),
        Figure("SCALE", "SIGTERM: spread of the times to come back", f"{spread_s:.1f} s", "2 s or more", spread_s >= 2),
        expect_at_most("SCALE", "SIGTERM: first event elsewhere, p95", first_s[int(0.95 * readers)], 2, "s"),
    ]


async def _move(exchange: HttpExchange, other: ConvoClient) -> tuple[int, float, bool]:
    """Read to the end, wait as told and go on: the wait in milliseconds, the seconds to the first event, exactness."""
    await exchange.read_to_end()
    wait_ms = int(bytes(exchange.body).rpartition(b"retry: ")[2].split(b"\n")[0])
    await asyncio.sleep(wait_ms / 1000)
    began_s = time.monotonic()
    rest = await other.resume_stream(exchange.turn_id, exchange.ids[-1])
    await rest.read_events(1)
    took_s = time.monotonic() - began_s
    seqs = [int(each.rpartition("-")[2]) for each in exchange.ids + rest.ids]
    rest.writer.close()
    return wait_ms, took_s, seqs == list(range(1, len(seqs) + 1)) and bool(rest.ids)


async def read_by_many(folder: Path, readers: int = 1000, turns: int = 10) -> list[Figure]:
    """Many readers of turns elsewhere: what they read, and what is left of it in Redis."""
    async with run_processes(folder, 2) as ((here, there), redis), Redis.from_url(redis.url) as client:
        owns = await asyncio.gather(*(ConvoClient(here.port).post_stream(TALK) for _ in range(turns)))
        reading = await asyncio.gather(
            *(ConvoClient(there.port).resume_stream(owns[n % turns].turn_id) for n in range(readers))
        )
        connections = len([one for one in await client.client_list() if one["name"] == "zoochat"])
        await asyncio.gather(*(exchange.read_to_end() for exchange in [*owns, *reading]))
        exact = sum(exchange.frames == owns[n % turns].frames for n, exchange in enumerate(reading))

        async def is_base() -> bool:
            return len(await client.pubsub_channels()) == 2

        base_s = await poll_until(is_base, within_s=5)
    return [
        expect_all("SCALE", f"{readers} readers of turns elsewhere: exact", exact, readers),
        expect_at_most("SCALE", "connections of two processes to Redis", connections, 12, "connections"),
        expect_at_most("SCALE", "until only the channels of the processes are left", base_s, 5, "s"),
    ]


async def lose_redis(folder: Path, turns: int = 10) -> list[Figure]:
    """Redis is killed before, in and after turns, and emptied: no reply is lost, and nothing is started again."""
    stored = repeated = 0
    async with run_processes(folder, 2) as ((here, there), redis):
        owner, other = ConvoClient(here.port), ConvoClient(there.port)
        for moment in ("before", "in", "after", "emptied"):
            if moment == "before":
                redis.stop()
            owns = await asyncio.gather(*(owner.post_stream(TALK) for _ in range(turns)))
            await asyncio.gather(*(own.read_events(12) for own in owns))
            if moment == "in":
                redis.stop()
            if moment == "emptied":
                async with Redis.from_url(redis.url) as client:
                    await client.flushall()
            await asyncio.gather(*(own.read_to_end() for own in owns))
            if moment == "after":
                redis.stop()
            for own in owns:
                stored += (await other.get_turn(own.turn_id)).get("reply") == TALK.reply
                repeated += len(own.ids) != len(set(own.ids))
            if moment != "emptied":
                redis.start()
                await redis.wait_until_ready()
        last = await (await owner.post_stream(TALK)).read_events(1)

        async def is_back() -> bool:
            elsewhere = await (await other.resume_stream(last.turn_id)).read_to_end()
            await last.read_to_end()
            return elsewhere.frames == last.frames

        back_s = await poll_until(is_back, within_s=15)
    count = 4 * turns
    return [
        expect_all("SCALE", "Redis killed before, in, after, emptied: replies stored", stored, count),
        expect_none("SCALE", "Redis killed: turns with an id twice", repeated, count),
        expect_at_most("SCALE", "Redis back: until a turn is whole elsewhere", back_s, 15, "s"),
    ]
