"""Several server processes over one database and one Redis: a turn of one is read, stopped and polled in the others.

Every test has its own Redis, because most of them end it, empty it or look at its connections.
"""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.faults.convo_client import ConvoClient, HttpExchange
from tests.support.connections import close_all
from tests.support.contract import SseEvent, check_stream
from tests.support.processes import ScriptedServer, count_calls, open_store, run_several
from tests.support.redis_server import RedisServer, require_redis
from tests.support.scripted_server import Script
from tests.support.timing import poll_until

TALK = Script(pieces=30, per_s=20)
LONG = Script(pieces=400, per_s=20)
PATIENCE_S = 20


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    require_redis()
    server = RedisServer(tmp_path)
    try:
        await server.wait_until_ready()
        yield server
    finally:
        server.stop()


def start(folder: Path, redis: RedisServer, count: int = 2, **settings: object) -> Any:
    """As many processes over one folder, which share their event logs."""
    return run_several(folder, count, EVENT_LOG="redis", REDIS_URL=redis.url, **settings)


@pytest.fixture(autouse=True)
async def close_connections() -> AsyncIterator[None]:
    """While the event loop of the test is there."""
    yield
    await close_all()


def make_client(server: ScriptedServer) -> ConvoClient:
    return ConvoClient(server.port)


async def begin(server: ScriptedServer, script: Script, events: int) -> HttpExchange:
    """A turn of which that many events were read."""
    return await (await make_client(server).post_stream(script)).read_events(events)


async def finish(exchange: HttpExchange) -> HttpExchange:
    async with asyncio.timeout(PATIENCE_S):
        return await exchange.read_to_end()


def check_whole(exchange: HttpExchange) -> list[SseEvent]:
    """The events of a stream from the first one, by the rules of the contract."""
    return check_stream("/convo_turn_stream", bytes(exchange.body))


async def wait_for_status(server: ScriptedServer, turn_id: str, status: str, within_s: float = PATIENCE_S) -> float:
    async def has_it() -> bool:
        return bool((await make_client(server).get_turn(turn_id))["status"] == status)

    return await poll_until(has_it, within_s)


async def test_a_turn_is_read_and_resumed_in_another_process_at_every_entry(tmp_path: Path, redis: RedisServer) -> None:
    """While it runs and when it has ended: the bytes behind each entry are those of its own process."""
    async with start(tmp_path, redis) as (here, there):
        own = await begin(here, TALK, 1)
        turn_id, last = own.turn_id, 0
        resumed: dict[int, HttpExchange] = {}
        while await own.read_part() or last < len(own.frames):
            for seq in range(last + 1, len(own.frames) + 1):
                resumed[seq] = await make_client(there).resume_stream(turn_id, f"{turn_id}-{seq}")
            last = len(own.frames)
        frames = own.frames
        check_stream("/convo_turn_stream", bytes(own.body))
        assert own.is_whole

        for seq, exchange in resumed.items():
            await finish(exchange)
            assert exchange.frames == frames[seq:], seq
            assert exchange.status == (204 if seq == len(frames) else 200)
        for seq in range(len(frames)):
            again = await finish(await make_client(there).resume_stream(turn_id, f"{turn_id}-{seq}"))
            assert again.frames == frames[seq:], seq
        whole = await finish(await make_client(there).resume_stream(turn_id))
        assert whole.frames == frames


async def test_a_turn_is_stopped_polled_and_repeated_from_another_process(tmp_path: Path, redis: RedisServer) -> None:
    """Its own readers hear so, and everybody gets the same state."""
    async with start(tmp_path, redis, 3) as (here, there, elsewhere):
        own = await begin(here, LONG, 12)
        watching = await make_client(there).resume_stream(own.turn_id)
        await watching.read_events(12)

        polled = await make_client(elsewhere).get_turn(own.turn_id)
        assert polled["status"] == "running"
        assert polled["reply"].startswith("Tick 1. ")
        assert polled["progress"] == 75

        stopping = await make_client(elsewhere).stop_turn(own.turn_id)
        stopped = (await finish(stopping)).json
        assert (stopping.status, stopped["status"], stopped["finishReason"]) == (200, "stopped", "stopped")
        await asyncio.gather(finish(own), finish(watching))
        assert own.find_event("complete")["fullResponse"] == stopped["reply"]
        assert watching.frames == own.frames
        for server in (here, there, elsewhere):
            state = await make_client(server).get_turn(own.turn_id)
            assert (state["status"], state["reply"]) == ("stopped", stopped["reply"])


async def test_a_repeated_request_joins_the_turn_of_another_process(tmp_path: Path, redis: RedisServer) -> None:
    """As a stream and as JSON: one turn, one call of the model."""
    async with start(tmp_path, redis) as (here, there):
        key = str(uuid.uuid4())
        first = await (await make_client(here).post_stream(TALK, key=key)).read_events(12)
        again = await make_client(there).post_stream(TALK, key=key)
        await asyncio.gather(finish(first), finish(again))
        assert again.frames == first.frames

        key, script = str(uuid.uuid4()), replace(TALK, mark="json")
        answering = asyncio.ensure_future(make_client(here).post_turn(script, key=key))

        async def has_begun() -> bool:
            return count_calls(tmp_path, "json") == 1

        await poll_until(has_begun, PATIENCE_S)
        repeated = await make_client(there).post_turn(script, key=key)
        assert repeated.json["reply"] == script.reply
        assert repeated.json == (await answering).json
        assert count_calls(tmp_path, "json") == 1


async def test_a_message_interrupts_the_turn_of_another_process(tmp_path: Path, redis: RedisServer) -> None:
    """What was said is kept, and the message has its turn at once."""
    async with start(tmp_path, redis) as (here, there):
        own = await begin(here, LONG, 12)
        session_id = own.find_event("metadata")["sessionId"]
        message = await make_client(there).post_stream(Script(mark="next"), session_id=session_id, onBusy="interrupt")
        await asyncio.gather(finish(own), finish(message))
        assert own.find_event("complete")["finishReason"] == "stopped"
        assert message.find_event("complete")["fullResponse"] == Script().reply


async def test_a_reader_elsewhere_keeps_the_turn_running(tmp_path: Path, redis: RedisServer) -> None:
    """And when it has left, the turn ends after the grace, as with readers of its own process."""
    async with start(tmp_path, redis, ORPHAN_GRACE=1) as (here, there):
        own = await begin(here, LONG, 12)
        reading = await make_client(there).resume_stream(own.turn_id)
        own.writer.close()
        # Three times the grace, in pieces of the reply.
        await reading.read_events(12 + 60)
        assert (await make_client(there).get_turn(own.turn_id))["status"] == "running"
        assert len(reading.frames) >= 72

        reading.writer.close()
        assert await wait_for_status_unread(tmp_path, own.turn_id) < PATIENCE_S


async def wait_for_status_unread(folder: Path, turn_id: str) -> float:
    """Seconds until the turn was stopped, without a look at it, which would be reading."""
    async with open_store(folder) as store:

        async def is_stopped() -> bool:
            turn = await store.get_turn(turn_id)
            return turn is not None and turn.status == "stopped"

        return await poll_until(is_stopped, within_s=PATIENCE_S)


async def test_readers_elsewhere_hear_that_the_process_was_killed(tmp_path: Path, redis: RedisServer) -> None:
    """After one lease at most, without a number, and the turn is stored as interrupted. What follows is named."""
    async with start(tmp_path, redis, LEASE=3) as (here, there):
        own = await begin(here, LONG, 12)
        reading = await (await make_client(there).resume_stream(own.turn_id)).read_events(10)
        await here.stop_in_thread(signal.SIGKILL)
        await asyncio.gather(finish(own), finish(reading))

        events = check_whole(reading)
        assert (events[-1].event, events[-1].id) == ("error", None)
        assert events[-1].data["error"]["code"] == "interrupted"
        state = await make_client(there).get_turn(own.turn_id)
        assert (state["status"], state["error"]["code"]) == ("failed", "interrupted")
        for position in (reading.ids[-1], own.ids[-1], f"{own.turn_id}-{len(reading.frames) + 50}"):
            gone = await finish(await make_client(there).resume_stream(own.turn_id, position))
            assert (gone.status, gone.json["code"]) == (410, "log_gone"), position
            assert own.turn_id in gone.headers["link"]
        earlier = await finish(await make_client(there).resume_stream(own.turn_id, f"{own.turn_id}-3"))
        assert earlier.ids == reading.ids[3:]
        assert b'"code":"interrupted"' in earlier.body


async def test_a_process_that_slept_past_its_lease_is_fenced(tmp_path: Path, redis: RedisServer) -> None:
    """It writes nothing more where others read, and the turn has one ending, in the log and in the store."""
    async with start(tmp_path, redis, LEASE=1, ORPHAN_GRACE=60) as (here, there):
        own = await begin(here, LONG, 12)
        reading = await (await make_client(there).resume_stream(own.turn_id)).read_events(10)
        here.process.send_signal(signal.SIGSTOP)
        await finish(reading)
        here.process.send_signal(signal.SIGCONT)
        await finish(own)

        assert b'"code":"interrupted"' in bytes(reading.body)
        assert own.find_event("error")["error"]["code"] == "interrupted"
        again = await finish(await make_client(there).resume_stream(own.turn_id, f"{own.turn_id}-1"))
        assert again.ids == reading.ids[1:]
        assert bytes(again.body).count(b"event: error") == 1
        state = await make_client(there).get_turn(own.turn_id)
        assert (state["status"], state["error"]["code"]) == ("failed", "interrupted")


@pytest.mark.parametrize("kept", [0, 12], ids=["before the turn", "in the turn"])
async def test_a_redis_that_is_away_costs_only_readers_elsewhere(tmp_path: Path, redis: RedisServer, kept: int) -> None:
    """In its own process the turn is read, settled and stored; elsewhere it can be polled, and read later."""
    async with start(tmp_path, redis) as (here, there):
        if not kept:
            redis.stop()
        own = await begin(here, TALK, 12)
        if kept:
            redis.stop()
        refused = await finish(await make_client(there).resume_stream(own.turn_id))
        assert (refused.status, refused.json["code"]) == (409, "turn_elsewhere")
        assert (await make_client(there).get_turn(own.turn_id))["status"] == "running"
        await finish(own)
        assert own.find_event("complete")["fullResponse"] == TALK.reply
        assert (await make_client(there).get_turn(own.turn_id))["reply"] == TALK.reply

        redis.start()
        await redis.wait_until_ready()

        async def is_readable() -> bool:
            whole = await finish(await make_client(there).resume_stream(own.turn_id))
            return whole.status == 200 and whole.frames == own.frames

        assert await poll_until(is_readable, PATIENCE_S) < PATIENCE_S
        later = await begin(here, TALK, 12)
        reading = await make_client(there).resume_stream(later.turn_id)
        await asyncio.gather(finish(later), finish(reading))
        assert reading.frames == later.frames


@pytest.mark.parametrize("harm", ["restart", "flush", "trim"])
async def test_a_reader_elsewhere_loses_nothing_when_redis_forgets(
    tmp_path: Path, redis: RedisServer, harm: str
) -> None:
    """The owner writes again what is missing, with the same numbers."""
    async with start(tmp_path, redis, LEASE=3) as (here, there):
        own = await begin(here, Script(pieces=60, per_s=20), 12)
        reading = await (await make_client(there).resume_stream(own.turn_id)).read_events(14)
        if harm == "restart":
            redis.stop()
            redis.start()
            await redis.wait_until_ready()
        else:
            async with Redis.from_url(redis.url) as client:
                stream = f"zoochat:{{{own.turn_id}}}:events"
                await (client.flushall() if harm == "flush" else client.xtrim(stream, maxlen=2, approximate=False))
        late = await make_client(there).resume_stream(own.turn_id, f"{own.turn_id}-5")
        await asyncio.gather(finish(own), finish(reading), finish(late))
        assert reading.frames == own.frames
        if late.status == 200:
            assert late.frames == own.frames[5:]
        else:
            assert late.status in (409, 410)
        whole = await finish(await make_client(there).resume_stream(own.turn_id))
        assert whole.frames == own.frames


async def test_positions_that_cannot_be_are_named(tmp_path: Path, redis: RedisServer) -> None:
    """Negative, of another turn, of the future: refused, and no turn is begun."""
    async with start(tmp_path, redis) as (here, there):
        own, other = await begin(here, LONG, 12), await begin(here, LONG, 1)
        answers = {
            position: (await finish(await make_client(there).resume_stream(own.turn_id, position))).status
            for position in ("-1", f"{own.turn_id}--1", f"{other.turn_id}-1", f"{own.turn_id}-5000")
        }
        assert set(answers.values()) == {400}
        unknown = "turn_" + "0" * 32
        assert (await make_client(there).resume_stream(unknown, f"{unknown}-1")).status == 404


async def test_an_erased_turn_is_gone_everywhere(tmp_path: Path, redis: RedisServer) -> None:
    """Its readers elsewhere are told, its process stops, and Redis keeps nothing of what was said."""
    async with start(tmp_path, redis) as (here, there):
        own = await begin(here, LONG, 12)
        reading = await (await make_client(there).resume_stream(own.turn_id)).read_events(10)
        session_id = own.find_event("metadata")["sessionId"]
        erasing = await make_client(there)._ask("DELETE", f"/convo_history?sessionId={session_id}")
        assert (await finish(erasing)).status == 204
        await asyncio.gather(finish(own), finish(reading))
        assert check_whole(reading)[-1].data["error"]["code"] == "session_deleted"
        assert own.find_event("error")["error"]["code"] == "session_deleted"
        async with Redis.from_url(redis.url) as client:

            async def is_erased() -> bool:
                keys = [key async for key in client.scan_iter(f"*{own.turn_id}*")]
                return [await client.hgetall(key) for key in keys] == [{b"deleted": b"1"}]

            assert await poll_until(is_erased, PATIENCE_S) < PATIENCE_S


async def test_readers_of_a_process_that_ends_go_on_in_another(tmp_path: Path, redis: RedisServer) -> None:
    """They are told to come back, at times that differ, and find the rest; the turn goes on."""
    async with start(tmp_path, redis) as (here, there):
        own = await begin(here, LONG, 12)
        readings = [await make_client(there).resume_stream(own.turn_id) for _ in range(10)]
        for reading in readings:
            await reading.read_events(12)
        assert await there.stop_in_thread(signal.SIGTERM) == 0
        waits = set()
        for reading in readings:
            await finish(reading)
            assert reading.is_whole
            assert b"the server restarts; come back in a moment" in reading.body
            waits.add(bytes(reading.body).rpartition(b"retry: ")[2].split(b"\n")[0])
        assert len(waits) > 5
        assert all(1000 <= int(wait) <= 4000 for wait in waits)
        seen = readings[0].frames
        rest = await make_client(here).resume_stream(own.turn_id, f"{own.turn_id}-{len(seen)}")
        await rest.read_events(5)
        await own.read_events(len(seen) + 5)
        assert seen + rest.frames[:5] == own.frames[: len(seen) + 5]


async def test_connections_do_not_grow_with_readers_and_turns(tmp_path: Path, redis: RedisServer) -> None:
    """The number of connections of the processes is constant; the channels are back to those of the processes."""
    async with start(tmp_path, redis) as (here, there), Redis.from_url(redis.url) as client:
        most = 0
        for _ in range(3):
            owns = [await begin(here, TALK, 1) for _ in range(10)]
            readings = [await make_client(there).resume_stream(own.turn_id) for own in owns for _ in range(5)]
            most = max(most, len([one for one in await client.client_list() if one["name"] == "zoochat"]))
            await asyncio.gather(*(finish(exchange) for exchange in [*owns, *readings]))
            assert all(reading.frames for reading in readings)
        assert most <= 2 * 6

        async def is_quiet() -> bool:
            return len(await client.pubsub_channels()) == 2

        assert await poll_until(is_quiet, PATIENCE_S) < PATIENCE_S
