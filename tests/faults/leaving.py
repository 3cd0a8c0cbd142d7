"""F2: clients that leave in the middle, a thousand times: each is noticed, and nothing of it stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.figures import Figure, expect_all, expect_at_most
from tests.faults.visitors import ConvoClient, warm_up
from tests.support.connections import close, reset
from tests.support.polling import poll_until
from tests.support.processes import Footprint, ScriptedServer, run_scripted
from tests.support.scripted_server import Script

GRACE_S = 0.5
LONG_SCRIPT = Script(pieces=1_000, per_s=10)


async def abandon_streams(folder: Path, times: int = 1_000, at_once: int = 50) -> list[Figure]:
    """Streams are opened `at_once` at a time; every second client leaves with FIN, the others with RST."""
    async with run_scripted(folder, ORPHAN_GRACE=GRACE_S) as server:
        visitor = ConvoClient(server.port)
        await warm_up(visitor)
        before, tasks_before = server.footprint, await _count_tasks(visitor)
        seen_s = [await _abandon(visitor, at_once) for _ in range(times // at_once)]
        stopped_s = await poll_until(lambda: _is_idle(visitor), within_s=GRACE_S + 5)
        await poll_until(lambda: _is_restored(server, before), within_s=5)
        after, tasks_after = server.footprint, await _count_tasks(visitor)
        told = server.log.count("Stream cancelled by client")
    count = times // at_once * at_once
    return [
        expect_at_most(
            "F2", f"client leaves, {count} times: until the server saw the last of {at_once}", max(seen_s), 1, "s"
        ),
        expect_at_most("F2", "client leaves: until the orphaned turns were stopped", stopped_s, GRACE_S + 1, "s"),
        expect_all("F2", "client leaves: turns that the log tells of", told, count),
        _expect_restored("threads", before.threads, after.threads),
        _expect_restored("files", before.files, after.files),
        _expect_restored("tasks", tasks_before, tasks_after),
    ]


async def _abandon(visitor: ConvoClient, count: int) -> float:
    """Open streams, hear a word of each, leave them all; seconds until none of their readers is left."""
    streams = await asyncio.gather(*(visitor.post_stream(LONG_SCRIPT) for _ in range(count)))
    await asyncio.gather(*(stream.read_until(b"event: chunk") for stream in streams))
    for number, stream in enumerate(streams):
        (close if number % 2 else reset)(stream.writer)
    return await poll_until(lambda: _has_readers(visitor, 0), within_s=10)


async def _count_tasks(visitor: ConvoClient) -> int:
    reply: str = (await visitor.post_turn(Script(reports_tasks=True))).json["reply"]
    return int(reply.split()[0])


async def _has_readers(visitor: ConvoClient, count: int) -> bool:
    return await visitor.count_readers() == count


async def _is_idle(visitor: ConvoClient) -> bool:
    return await visitor.count_turns() == {"running": 0, "readers": 0}


async def _is_restored(server: ScriptedServer, before: Footprint) -> bool:
    now = server.footprint
    return now.threads <= before.threads and now.files <= before.files


def _expect_restored(what: str, before: int, after: int) -> Figure:
    return Figure(
        "F2", f"client leaves: {what} afterwards", f"{after}", f"at most {before}, as before", after <= before
    )
