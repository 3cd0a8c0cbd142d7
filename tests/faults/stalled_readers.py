"""F5: readers that read nothing, or a byte a second: they use little memory, are dropped and slow nobody down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import percentile
from tests.faults.convo_client import ConvoClient, HttpExchange, watch_health
from tests.faults.figures import Figure, expect_all, expect_at_most, expect_none
from tests.support.connections import reset
from tests.support.processes import ScriptedServer, run_scripted
from tests.support.scripted_server import Script
from tests.support.tcp_proxy import TcpProxy
from tests.support.timing import poll_until

MEMORY_MB = 20
HEALTH_MS = 50
# How much later than without stalled readers a chunk of another stream may come.
UNCHANGED_MS = 50
# Until the small buffers between the server and a reader that takes nothing are full.
FILL_S = 2


@dataclass(frozen=True, slots=True)
class StallSize:
    """`readers` of one turn stall, one keeps up; `others` are streams of their own beside it, for `duration_s`.

    `share`: the percentile that is held against the lines. Of a few values the 99th is the worst, and proves little.
    """

    readers: int = 50
    others: int = 20
    send_timeout_s: float = 3
    duration_s: float = 20
    share: float = 99

    @property
    def long_script(self) -> Script:
        """320 KB a second. It does not end while we watch: the last event holds the whole reply once more."""
        pieces = round(self.duration_s * 40)
        return Script(pieces=pieces, per_s=40, size=8_192, hang_after=pieces)

    @property
    def short_script(self) -> Script:
        return Script(pieces=round(self.duration_s * 10), per_s=10)


@dataclass(slots=True)
class StallRun:
    """What was measured; `dropped_s`: seconds until the last stalled reader was dropped.

    `peaks_mb`: the most memory up to each of a row of moments.
    """

    peaks_mb: list[float] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)
    cut: int = 0
    left: int = 0
    dropped_s: float = 0


async def stall_readers(folder: Path, size: StallSize = StallSize()) -> list[Figure]:
    """The same load on two server processes: without stalled readers, and with them."""
    alone = await _run(folder, size, stalled=0)
    loaded = await _run(folder, size, stalled=size.readers)
    who = f"{size.readers} stalled readers"
    # Moment by moment: the turn's own log grows, and its final size would hide what the stalled readers cost before.
    memory_mb = max(with_mb - without_mb for with_mb, without_mb in zip(loaded.peaks_mb, alone.peaks_mb, strict=False))
    health_ms, gap_ms = percentile(loaded.health_ms, size.share), percentile(loaded.gaps_ms, size.share)
    gap_line_ms = percentile(alone.gaps_ms, size.share) + UNCHANGED_MS
    return [
        expect_at_most(
            "F5", f"{who}: peak of memory beyond that without them, moment by moment", memory_mb, MEMORY_MB, "MB"
        ),
        expect_at_most("F5", f"{who}: GET /health p{size.share:g}", health_ms, HEALTH_MS, "ms"),
        expect_all("F5", f"{who}: dropped", size.readers - loaded.left, size.readers),
        expect_at_most("F5", f"{who}: until the last was dropped", loaded.dropped_s, size.send_timeout_s + FILL_S, "s"),
        expect_none("F5", f"{who}: other streams cut or incomplete", loaded.cut, size.others),
        expect_at_most("F5", f"{who}: gap between chunks of other streams, p{size.share:g}", gap_ms, gap_line_ms, "ms"),
    ]


async def _run(folder: Path, size: StallSize, *, stalled: int) -> StallRun:
    limits = {"SEND_TIMEOUT": size.send_timeout_s, "LOG_LEVEL": "WARNING"}
    async with run_scripted(folder, **limits) as server:
        client = ConvoClient(server.port)
        turn_id = await client.start_turn(size.long_script)
        async with _open_stalled(server.port, turn_id, stalled), _keep_reading(await client.resume_stream(turn_id)):
            return await _measure_others(server, size)


@asynccontextmanager
async def _open_stalled(port: int, turn_id: str, count: int) -> AsyncIterator[None]:
    """Readers that got one chunk; then one half reads nothing and the other half a byte a second."""
    async with TcpProxy(port) as stopped, TcpProxy(port) as slow:
        clients = [ConvoClient(stopped.port), ConvoClient(slow.port)]
        readers = await asyncio.gather(*(clients[number % 2].resume_stream(turn_id) for number in range(count)))
        await asyncio.gather(*(reader.read_until(b"event: chunk") for reader in readers))
        stopped.pause()
        slow.bytes_per_s = 1
        yield
        for reader in readers:
            reset(reader.writer)


@asynccontextmanager
async def _keep_reading(reader: HttpExchange) -> AsyncIterator[None]:
    async def swallow() -> None:
        while await reader.reader.read(2**18):
            pass

    swallowing = asyncio.create_task(swallow())
    try:
        yield
    finally:
        swallowing.cancel()
        reset(reader.writer)


async def _measure_others(server: ScriptedServer, size: StallSize) -> StallRun:
    """Other streams, `/health`, memory and the number of readers, while the turn runs."""
    run, client = StallRun(), ConvoClient(server.port)
    watches = [
        asyncio.create_task(watch_health(client, run.health_ms)),
        asyncio.create_task(_watch_memory(server, run)),
    ]
    others = [asyncio.create_task(_time_chunks(client, size.short_script, run)) for _ in range(size.others)]

    async def are_dropped() -> bool:
        run.left = max(0, await client.count_readers() - size.others - 1)
        return run.left == 0 and bool(run.gaps_ms)

    run.dropped_s = await poll_until(are_dropped, within_s=size.duration_s - 0.5)
    await asyncio.gather(*others)
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)
    return run


async def _watch_memory(server: ScriptedServer, run: StallRun) -> None:
    while True:
        run.peaks_mb.append(server.footprint.peak_mb)
        await asyncio.sleep(0.05)


async def _time_chunks(client: ConvoClient, script: Script, run: StallRun) -> None:
    stream = await client.post_stream(script)
    chunks, last_s = 0, 0.0
    while await stream.read_part():
        heard = stream.body.count(b"event: chunk\n")
        if chunks < heard:
            now_s = time.monotonic()
            run.gaps_ms += [(now_s - last_s) * 1000] if chunks else []
            chunks, last_s = heard, now_s
    run.cut += (stream.find_event("complete") or {}).get("fullResponse") != script.reply
