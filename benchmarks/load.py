"""The load generator: many streams or requests at once over plain sockets, so that it costs less than what it measures.

It counts frames by their bytes and parses nothing else. `make bench-peers` also measures the generator itself.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import uvloop

FIRST_MARK, CHUNK_MARK, COMPLETE_MARK = b"event: ", b"event: chunk", b"event: complete"
TURN_PATH = "/convo_turn_stream"
# More connections are opened only when some of these stand: the kernel drops what a full backlog cannot take.
OPENING_AT_ONCE = 1000
# More requests than any run takes: the time ends it.
UNLIMITED = 10_000_000


def make_request(
    path: str, body: object = None, *, is_last: bool = False, headers: Mapping[str, str] | None = None
) -> bytes:
    """One HTTP request: a POST of the JSON, or a GET without one. `is_last`: the server closes the connection then.

    >>> make_request("/health")
    b'GET /health HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n'
    """
    sent = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(sent)}"]
    if is_last:
        lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + sent


QUESTION = {"message": "Tell me everything!", "animalId": "lion_001"}
ONE_STREAM = make_request(TURN_PATH, QUESTION, is_last=True)


@dataclass(slots=True)
class StreamTimes:
    """One stream: seconds from its start to the first event, and between the arrivals of chunks."""

    first_event_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    chunks: int = 0
    is_complete: bool = False


@dataclass(slots=True)
class LoadResult:
    """One run of streams. `took_s`: seconds from the first request to the end of the last stream.

    `cpu_share`: how busy the load generator was with it, as a share of one processor.
    """

    streams: list[StreamTimes]
    health_s: list[float]
    took_s: float
    cpu_share: float = 0.0

    @property
    def completed(self) -> int:
        return sum(stream.is_complete for stream in self.streams)

    @property
    def chunks(self) -> int:
        return sum(stream.chunks for stream in self.streams)

    @property
    def first_events_s(self) -> list[float]:
        """Of the streams that had one."""
        return [stream.first_event_s for stream in self.streams if stream.first_event_s]

    @property
    def gaps_s(self) -> list[float]:
        return [gap for stream in self.streams for gap in stream.gaps_s]


@dataclass(slots=True)
class RequestsResult:
    """One run of requests, one after another on each connection: the seconds of each good one, and how many failed."""

    times_s: list[float]
    failed: int
    took_s: float
    cpu_share: float

    @property
    def per_s(self) -> float:
        return len(self.times_s) / self.took_s


async def run_load(
    port: int,
    count: int,
    timeout_s: float = 120,
    show_progress: Callable[[LoadResult], None] | None = None,
    *,
    request: bytes = ONE_STREAM,
    is_health_watched: bool = True,
    waiting_at_once: int | None = None,
) -> LoadResult:
    """Start `count` streams at once, while another process asks for `/health` ten times a second.

    What has not ended after `timeout_s` is not complete. `waiting_at_once`: no more than so many wait for their first
    event; further ones start when it came.
    `show_progress` is called twice a second with what was measured so far.
    """
    streams = [StreamTimes() for _ in range(count)]
    opening = asyncio.Semaphore(waiting_at_once or OPENING_AT_ONCE)
    has_to_wait = waiting_at_once is not None
    watch = HealthWatch(port) if is_health_watched else None
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    try:
        reading = asyncio.gather(*(_read_stream(port, request, stream, opening, has_to_wait) for stream in streams))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while show_progress and not reading.done():
                    show_progress(LoadResult(streams, [], time.perf_counter() - began_s))
                    await asyncio.wait([reading], timeout=0.5)
                await reading
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        return LoadResult(streams, watch.stop() if watch else [], took_s, cpu_s / took_s)
    finally:
        if watch:
            watch.close()


async def run_requests(
    port: int,
    requests: Sequence[bytes],
    connections: int,
    *,
    count: int = UNLIMITED,
    seconds: float = 120,
    expected: bytes = b" 200 ",
) -> RequestsResult:
    """At most `count` requests, one after another on each of the connections, taking turns through `requests`.

    After `seconds` no further one is started. An answer is good that has the bytes `expected`.
    """
    loop = asyncio.get_running_loop()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    plan = _Plan(requests, count, began_s + seconds, expected)
    callers = []
    for _ in range(min(connections, count)):
        _, caller = await loop.create_connection(lambda: _Caller(plan), "127.0.0.1", port)
        callers.append(caller)
    async with asyncio.timeout(seconds + 60):
        await asyncio.gather(*(caller.done for caller in callers))
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return RequestsResult(plan.times_s, plan.failed, took_s, cpu_s / took_s)


class LoadProcess:
    """The load generator in a process of its own, on uvloop; a context manager. A run at a time."""

    def __enter__(self) -> LoadProcess:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run_streams(self, port: int, count: int, timeout_s: float = 120, **options: Any) -> LoadResult:
        """As `run_load`, with its `options`."""
        return self.start_streams(port, count, timeout_s, **options).result()

    def start_streams(self, port: int, count: int, timeout_s: float = 120, **options: Any) -> Future[LoadResult]:
        return self._pool.submit(_run_streams, port, count, timeout_s, options)

    def run_requests(
        self, port: int, requests: Sequence[bytes], connections: int, *, count: int = UNLIMITED, **options: Any
    ) -> RequestsResult:
        """As `run_requests`, with its `options`."""
        return self._pool.submit(_run_requests, port, requests, connections, count, options).result()


def _run_streams(port: int, count: int, timeout_s: float, options: dict[str, Any]) -> LoadResult:
    # Each connection is an open file.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(run_load(port, count, timeout_s, **options))


def _run_requests(
    port: int, requests: Sequence[bytes], connections: int, count: int, options: dict[str, Any]
) -> RequestsResult:
    return uvloop.run(run_requests(port, requests, connections, count=count, **options))


async def _read_stream(
    port: int, request: bytes, times: StreamTimes, opening: asyncio.Semaphore, has_to_wait: bool
) -> None:
    loop = asyncio.get_running_loop()
    transport: asyncio.Transport | None = None
    try:
        async with opening:
            began_s = time.perf_counter()
            transport, reader = await loop.create_connection(
                lambda: _StreamReader(request, times, began_s), "127.0.0.1", port
            )
            if has_to_wait:
                await reader.has_begun.wait()
        await reader.done
    finally:
        if transport is not None:
            transport.abort()


class _StreamReader(asyncio.Protocol):
    """Sends one request and notes when what arrives, until the server closes the connection."""

    def __init__(self, request: bytes, times: StreamTimes, began_s: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_begun = asyncio.Event()
        self._request = request
        self._times = times
        self._began_s = began_s
        self._last_s = 0.0
        # The end of the bytes before: a mark may arrive in two pieces.
        self._tail = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        times = self._times
        seen = self._tail + data
        if not times.first_event_s and FIRST_MARK in seen:
            times.first_event_s = now_s - self._began_s
            self.has_begun.set()
        chunks = seen.count(CHUNK_MARK, max(0, len(self._tail) - len(CHUNK_MARK) + 1))
        if chunks:
            times.chunks += chunks
            if self._last_s:
                times.gaps_s.append(now_s - self._last_s)
            self._last_s = now_s
        if COMPLETE_MARK in seen:
            times.is_complete = True
        self._tail = seen[1 - len(COMPLETE_MARK) :]

    def connection_lost(self, error: Exception | None) -> None:
        self.has_begun.set()
        if not self.done.done():
            self.done.set_result(None)


class _Plan:
    """What the callers of one run have left to ask, and what they have measured."""

    def __init__(self, requests: Sequence[bytes], count: int, end_s: float, expected: bytes) -> None:
        self.times_s: list[float] = []
        self.failed = 0
        self.expected = expected
        self._requests = requests
        self._count = count
        self._end_s = end_s
        self._started = 0

    def take(self) -> bytes | None:
        """The next request; None when there is none."""
        if self._started >= self._count or time.perf_counter() >= self._end_s:
            return None
        self._started += 1
        return self._requests[self._started % len(self._requests)]


class _Caller(asyncio.Protocol):
    """Sends one request after another over one connection; the next one when the answer to the last has ended."""

    def __init__(self, plan: _Plan) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._send_next()

    def _send_next(self) -> None:
        assert self._transport is not None
        request = self._plan.take()
        if request is None:
            self._transport.close()
            self._end()
            return
        self._seen = b""
        self._sent_s = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if not _is_whole_answer(self._seen):
            return
        if self._plan.expected in self._seen:
            self._plan.times_s.append(time.perf_counter() - self._sent_s)
        else:
            self._plan.failed += 1
        self._send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._plan.failed += 1
            self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _is_whole_answer(seen: bytes) -> bool:
    """Whether the bytes are an answer to its end, by its length or by its last chunk.

    >>> _is_whole_answer(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    True
    >>> _is_whole_answer(b"HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n2\\r\\nok\\r\\n")
    False
    """
    head, found, body = seen.partition(b"\r\n\r\n")
    if not found:
        return False
    _, has_length, rest = head.lower().partition(b"\r\ncontent-length:")
    if has_length:
        return len(body) >= int(rest.split(b"\r\n", 1)[0])
    return body.endswith(b"\r\n0\r\n\r\n") or body == b"0\r\n\r\n"


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` percent of the values do not exceed."""
    ordered: Sequence[float] = sorted(values)
    return ordered[min(len(ordered) - 1, round(share / 100 * len(ordered)))]


EVERY_S = 0.1
HEALTH_TIMEOUT_S = 30


class HealthWatch:
    """Asks for `/health` ten times a second until stopped; `stop` returns the seconds that each answer took.

    In a process of its own: a busy load generator would measure its own waiting.
    """

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_watch, args=(port, there), daemon=True)
        self._process.start()

    def close(self) -> None:
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
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_S)) as connection:
            # A late answer is as late as the wait for it: it is measured, too.
            with suppress(TimeoutError):
                connection.request("GET", "/health")
                assert connection.getresponse().status == 200
            took_s.append(time.perf_counter() - began_s)
    there.send(took_s)
