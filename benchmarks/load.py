"""A load generator and a watch on `/health`, over plain sockets, so that it costs less than the server it measures."""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType

REQUEST = (
    "POST /convo_turn_stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
)
BODY = json.dumps({"message": "Tell me everything!", "animalId": "lion_001"})


@dataclass(slots=True)
class StreamTimes:
    """One stream: seconds from the request to the first event, and between chunks."""

    first_event_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    chunks: int = 0
    is_complete: bool = False


@dataclass(slots=True)
class LoadResult:
    """One run. `took_s`: seconds from the first request to the end of the last stream."""

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


async def run_load(
    port: int, count: int, timeout_s: float = 120, show_progress: Callable[[LoadResult], None] | None = None
) -> LoadResult:
    """Start `count` streams at once, while another process asks for `/health` ten times a second.

    `show_progress` is called twice a second with what was measured so far.
    """
    streams = [StreamTimes() for _ in range(count)]
    began_s = time.perf_counter()
    with HealthWatch(port) as watch:
        async with asyncio.timeout(timeout_s):
            reading = asyncio.gather(*(_read(port, stream) for stream in streams))
            while show_progress and not reading.done():
                show_progress(LoadResult(streams, [], time.perf_counter() - began_s))
                await asyncio.wait([reading], timeout=0.5)
            await reading
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


EVERY_S = 0.1


class HealthWatch:
    """Asks for `/health` ten times a second until stopped; `stop` returns the seconds that each answer took.

    In a process of its own: a busy load generator would measure its own waiting.
    """

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_watch, args=(port, there), daemon=True)

    def __enter__(self) -> HealthWatch:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._here.close()

    def stop(self) -> list[float]:
        self._here.send("stop")
        took_s: list[float] = self._here.recv()
        return took_s


def _watch(port: int, there: Connection) -> None:
    took_s: list[float] = []
    while not there.poll(EVERY_S):
        began_s = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
        took_s.append(time.perf_counter() - began_s)
    there.send(took_s)
