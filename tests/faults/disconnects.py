"""F2 and F6: clients that leave in mid-stream, half-open connections, and requests that arrive too slowly."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import percentile
from tests.faults.convo_client import ConvoClient, HttpExchange, warm_up, watch_health
from tests.faults.figures import Figure, expect_all, expect_at_most
from tests.support.connections import close, connect, reset, vanish
from tests.support.processes import Footprint, ScriptedServer, run_scripted
from tests.support.scripted_server import Script
from tests.support.tcp_proxy import TcpProxy
from tests.support.timing import poll_until

GRACE_S = 0.5
CANCELLED = "Stream cancelled by client"
LONG_SCRIPT = Script(pieces=1_000, per_s=10)


async def abandon_streams(folder: Path, times: int = 1_000, at_once: int = 50) -> list[Figure]:
    """Streams are opened `at_once` at a time; every second client leaves with FIN, the others with RST."""
    async with run_scripted(folder, ORPHAN_GRACE=GRACE_S) as server:
        client = ConvoClient(server.port)
        await warm_up(client)
        before, tasks_before = server.footprint, await _count_tasks(client)
        seen_s = [await _abandon(client, at_once) for _ in range(times // at_once)]
        stopped_s = await poll_until(lambda: _is_idle(client), within_s=GRACE_S + 5)
        await poll_until(lambda: _is_restored(server, before), within_s=5)
        after, tasks_after = server.footprint, await _count_tasks(client)
        count = times // at_once * at_once
        await poll_until(lambda: _are_told(server, count), within_s=5)
        told = server.log.count(CANCELLED)
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


async def _are_told(server: ScriptedServer, count: int) -> bool:
    return server.log.count(CANCELLED) >= count


async def _abandon(client: ConvoClient, count: int) -> float:
    """Open streams, read a chunk of each and close them all; seconds until the server counts no reader."""
    streams = await asyncio.gather(*(client.post_stream(LONG_SCRIPT) for _ in range(count)))
    await asyncio.gather(*(stream.read_until(b"event: chunk") for stream in streams))
    for number, stream in enumerate(streams):
        (close if number % 2 else reset)(stream.writer)
    return await poll_until(lambda: _has_readers(client, 0), within_s=10)


async def _count_tasks(client: ConvoClient) -> int:
    reply: str = (await client.post_turn(Script(reports_tasks=True))).json["reply"]
    return int(reply.split()[0])


async def _has_readers(client: ConvoClient, count: int) -> bool:
    return await client.count_readers() == count


async def _is_idle(client: ConvoClient) -> bool:
    return await client.count_turns() == {"running": 0, "readers": 0}


async def _is_restored(server: ScriptedServer, before: Footprint) -> bool:
    now = server.footprint
    return now.threads <= before.threads and now.files <= before.files


def _expect_restored(what: str, before: int, after: int) -> Figure:
    return Figure(
        "F2", f"client leaves: {what} afterwards", f"{after}", f"at most {before}, as before", after <= before
    )


HEALTH_MS = 50
HEAD = b"POST /convo_turn HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY_HEAD = HEAD + b"Content-Length: 1000\r\n\r\n"


async def hold_half_open(
    folder: Path, count: int = 20, heartbeat_s: float = 1, send_timeout_s: float = 2
) -> list[Figure]:
    """Clients that vanish without closing the connection, and clients that close only their sending side."""
    line_s = heartbeat_s + send_timeout_s + 1
    settings = {"HEARTBEAT": heartbeat_s, "SEND_TIMEOUT": send_timeout_s, "ORPHAN_GRACE": 60}
    async with run_scripted(folder, **settings) as server:
        await warm_up(ConvoClient(server.port))
        files = server.footprint.files
        vanished_s = await _measure_reclaim(server, await _open_streams(server.port, count), 3 * line_s, vanish)
        files_s = await poll_until(lambda: _has_at_most(server, files), within_s=5)
        async with TcpProxy(server.port) as proxy:
            streams = await _open_streams(proxy.port, count)
            closed_s = await _measure_reclaim(server, streams, 3 * line_s, lambda writer: None, proxy.half_close)
    return [
        expect_at_most("F6", f"{count} half-open streams: until their readers are given up", vanished_s, line_s, "s"),
        expect_at_most("F6", "half-open streams: until their files are closed too", files_s, 1, "s"),
        expect_at_most("F6", f"{count} half-closed streams: until their readers are given up", closed_s, line_s, "s"),
    ]


async def _open_streams(port: int, count: int) -> list[HttpExchange]:
    """Streams after their first chunk that now carry only heartbeats."""
    client = ConvoClient(port)
    streams = await asyncio.gather(*(client.post_stream(Script(hang_after=1)) for _ in range(count)))
    return list(await asyncio.gather(*(stream.read_until(b"event: chunk") for stream in streams)))


async def _measure_reclaim(
    server: ScriptedServer,
    streams: list[HttpExchange],
    within_s: float,
    spoil: Callable[[asyncio.StreamWriter], None],
    spoil_all: Callable[[], None] = lambda: None,
) -> float:
    """Seconds until the server has no reader left; the clients' ends stay open until then."""
    for stream in streams:
        spoil(stream.writer)
    spoil_all()
    client = ConvoClient(server.port)

    async def nobody_reads() -> bool:
        return await client.count_readers() == 0

    reclaimed_s = await poll_until(nobody_reads, within_s)
    for stream in streams:
        reset(stream.writer)
    await poll_until(nobody_reads, within_s=5)
    return reclaimed_s


async def _has_at_most(server: ScriptedServer, files: int) -> bool:
    return server.footprint.files <= files


async def send_slow_requests(folder: Path, count: int = 20, deadline_s: float = 10, share: float = 99) -> list[Figure]:
    """Connections that send nothing, or their headers or their body at a byte a second."""
    kinds = {"silent from the start": (b"", b""), "slow headers": (b"", HEAD), "slow body": (BODY_HEAD, b"{" * 1000)}
    async with run_scripted(folder, REQUEST_TIMEOUT=deadline_s, LOG_LEVEL="WARNING") as server:
        health_ms: list[float] = []
        watch = asyncio.create_task(watch_health(ConvoClient(server.port), health_ms))
        tasks = [
            asyncio.gather(*(_measure_life(server.port, *parts, 2 * deadline_s + 1) for _ in range(count)))
            for parts in kinds.values()
        ]
        lives = dict(zip(kinds, await asyncio.gather(*tasks), strict=True))
        watch.cancel()
    lasted = {kind: max(life_s for life_s, _ in ends) for kind, ends in lives.items()}
    told = sum(answer.startswith(b"HTTP/1.1 408 ") for _, answer in lives["slow body"])
    who = f"{count} connections"
    return [
        *(
            expect_at_most("F6", f"{who}, {kind}: until the last is closed", s, deadline_s + 1, "s")
            for kind, s in lasted.items()
        ),
        expect_all("F6", f"{who}, slow body: told 408", told, count),
        expect_at_most(
            "F6", f"slow requests: GET /health meanwhile, p{share:g}", percentile(health_ms, share), HEALTH_MS, "ms"
        ),
    ]


async def _measure_life(port: int, at_once: bytes, rest: bytes, timeout_s: float) -> tuple[float, bytes]:
    """Send a part at once and the rest a byte a second; seconds until the server hung up, and what it said."""
    reader, writer = await connect(port)
    began_s = time.monotonic()
    writer.write(at_once)
    sending = asyncio.create_task(_send_slowly(writer, rest))
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _read_rest(reader)
        return time.monotonic() - began_s, answer
    except TimeoutError:
        return math.inf, b""
    finally:
        sending.cancel()
        reset(writer)


async def _send_slowly(writer: asyncio.StreamWriter, rest: bytes) -> None:
    for byte in rest:
        writer.write(bytes([byte]))
        await asyncio.sleep(1)


async def _read_rest(reader: asyncio.StreamReader) -> bytes:
    words = b""
    try:
        while piece := await reader.read(65_536):
            words += piece
    except ConnectionError:
        pass  # a reset is an end as well
    return words
