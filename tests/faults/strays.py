"""F6: connections that are open only by half, and requests that never quite arrive. All are reclaimed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import percentile
from tests.faults.exchanges import HttpExchange
from tests.faults.figures import Figure, expect_all, expect_at_most
from tests.faults.visitors import ConvoClient, warm_up, watch_health
from tests.support.connections import connect, reset, vanish
from tests.support.polling import poll_until
from tests.support.processes import ScriptedServer, run_scripted
from tests.support.scripted_server import Script
from tests.support.tcp_proxy import TcpProxy

HEALTH_MS = 50
HEAD = b"POST /convo_turn HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY_HEAD = HEAD + b"Content-Length: 1000\r\n\r\n"


async def hold_half_open(
    folder: Path, count: int = 20, heartbeat_s: float = 1, send_timeout_s: float = 2
) -> list[Figure]:
    """Clients that are gone without a word, and clients that only said that they will ask nothing more."""
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
    """Streams that have said something and are silent now but for heartbeats."""
    visitor = ConvoClient(port)
    streams = await asyncio.gather(*(visitor.post_stream(Script(hang_after=1)) for _ in range(count)))
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
    visitor = ConvoClient(server.port)

    async def nobody_reads() -> bool:
        return await visitor.count_readers() == 0

    reclaimed_s = await poll_until(nobody_reads, within_s)
    for stream in streams:
        reset(stream.writer)
    await poll_until(nobody_reads, within_s=5)
    return reclaimed_s


async def _has_at_most(server: ScriptedServer, files: int) -> bool:
    return server.footprint.files <= files


async def send_slow_requests(folder: Path, count: int = 20, deadline_s: float = 10, share: float = 99) -> list[Figure]:
    """Connections that say nothing, that say their headers and that say their body a byte a second."""
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


async def _measure_life(port: int, at_once: bytes, rest: bytes, patience_s: float) -> tuple[float, bytes]:
    """Send a part at once and the rest a byte a second; seconds until the server hung up, and what it said."""
    reader, writer = await connect(port)
    began_s = time.monotonic()
    writer.write(at_once)
    sending = asyncio.create_task(_send_slowly(writer, rest))
    try:
        async with asyncio.timeout(patience_s):
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
