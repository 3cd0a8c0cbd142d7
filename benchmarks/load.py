"""A load generator: many streams at once over plain sockets, so that it costs less than the server it measures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.health import HealthWatch

REQUEST = (
    "POST /convo_turn_stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
)
BODY = json.dumps({"message": "Tell me everything!", "animalId": "lion_001"})


@dataclass(slots=True)
class StreamTimes:
    """What one stream was like: seconds from the request to the first event, and between pieces."""

    first_event_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    chunks: int = 0
    is_complete: bool = False


@dataclass(slots=True)
class LoadResult:
    """What a run was like."""

    streams: list[StreamTimes]
    health_s: list[float]
    took_s: float

    @property
    def completed(self) -> int:
        return sum(stream.is_complete for stream in self.streams)

    @property
    def first_events_s(self) -> list[float]:
        return [stream.first_event_s for stream in self.streams]

    @property
    def gaps_s(self) -> list[float]:
        return [gap for stream in self.streams for gap in stream.gaps_s]


async def run_load(port: int, count: int, timeout_s: float = 120) -> LoadResult:
    """`count` streams, all begun at once, while another process asks for `/health` ten times a second."""
    streams = [StreamTimes() for _ in range(count)]
    began_s = time.perf_counter()
    with HealthWatch(port) as watch:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*(_read(port, stream) for stream in streams))
        took_s = time.perf_counter() - began_s
        health_s = watch.stop()
    return LoadResult(streams, health_s, took_s)


async def _read(port: int, stream: StreamTimes) -> None:
    began_s = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST.format(length=len(BODY), body=BODY).encode())
    last_s = 0.0
    seen = b""
    while piece := await reader.read(65_536):
        now_s = time.perf_counter()
        stream.chunks += piece.count(b"event: chunk\n")
        if b"event: metadata\n" in piece:
            stream.first_event_s = now_s - began_s
        if b"event: chunk\n" in piece:
            if last_s:
                stream.gaps_s.append(now_s - last_s)
            last_s = now_s
        seen = (seen + piece)[-8192:]
    stream.is_complete = b"event: complete\n" in seen
    writer.close()


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` percent of the values do not exceed."""
    ordered: Sequence[float] = sorted(values)
    return ordered[min(len(ordered) - 1, round(share / 100 * len(ordered)))]
