"""The load generator counts what arrives, however it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks.load import (
    COMPLETE_MARK,
    LoadProcess,
    make_request,
    run_load,
    run_requests,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
COMPLETE = b"event: complete\ndata: {}\n\n"
FRAMES = b"".join(b"id: 1\nevent: chunk\ndata: {}\n\n" for _ in range(3)) + COMPLETE
STREAM = HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(FRAMES), FRAMES)
END = COMPLETE + b"\r\n0\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Answers(asyncio.Protocol):
    """Answers each request with the next answer, in pieces of so many bytes; closes where the request asks for it."""

    def __init__(self, take: Callable[[], bytes], size: int) -> None:
        self._take = take
        self._size = size

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._answering = asyncio.ensure_future(self._answer(is_last=b"Connection: close" in data))

    async def _answer(self, *, is_last: bool) -> None:
        answer = self._take()
        for at in range(0, len(answer), self._size):
            self._transport.write(answer[at : at + self._size])
            await asyncio.sleep(0)
        if is_last or not answer:
            self._transport.close()


@asynccontextmanager
async def serve(answers: Sequence[bytes], size: int = 65_536) -> AsyncIterator[int]:
    """A server that gives each of the answers once, and then the last of them; yields its port."""
    left = list(answers)

    def take() -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    server = await asyncio.get_running_loop().create_server(lambda: Answers(take, size), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("size", [1, 7, 12, 13, 65_536])
async def test_every_frame_counts_once_however_the_bytes_are_cut(size: int) -> None:
    """A mark that arrives in two pieces is found, and none is found twice."""
    async with serve([STREAM], size) as port:
        load = await run_load(port, 2, timeout_s=30, is_health_watched=False)
    assert [stream.chunks for stream in load.streams] == [3, 3]
    assert load.completed == 2
    assert all(0 < first_s < 30 for first_s in load.first_events_s)


async def test_a_stream_without_its_end_is_not_complete() -> None:
    """The figures of a server that breaks off its streams would look good."""
    async with serve([STREAM[: STREAM.index(b"event: complete")]]) as port:
        load = await run_load(port, 1, timeout_s=30, is_health_watched=False)
    assert load.completed == 0
    assert load.chunks == 3


async def test_a_stream_that_does_not_end_in_time_is_not_complete() -> None:
    """The others count: one slow server must not end a comparison."""
    endings = [STREAM[: -len(END)], STREAM, STREAM]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        sent = endings.pop()
        writer.write(sent)
        if sent != STREAM:
            # Until the load generator gives up.
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = await run_load(port, 3, timeout_s=0.5, is_health_watched=False)
    assert load.completed == 2
    assert load.chunks == 9
    assert load.took_s < 30


@pytest.mark.parametrize("size", [1, 65_536])
async def test_only_good_answers_count(size: int) -> None:
    """Two refusals and one closed connection among seven requests: four good answers."""
    async with serve([GOOD, BAD, GOOD, BAD, GOOD, GOOD, b""], size) as port:
        done = await run_requests(port, [make_request("/health")], 1, count=7)
    assert len(done.times_s) == 4
    assert done.failed == 3


async def test_a_streamed_answer_ends_with_its_last_chunk() -> None:
    """Connections are kept: what ends the answer is not the end of the connection."""
    async with serve([STREAM], 5) as port:
        done = await run_requests(port, [make_request("/turn", {"a": 1})], 3, count=9, expected=COMPLETE_MARK)
    assert len(done.times_s) == 9
    assert done.failed == 0


async def test_no_request_begins_after_the_time_is_up() -> None:
    """What has begun is finished."""
    async with serve([GOOD]) as port:
        done = await run_requests(port, [make_request("/health")], 2, count=1_000_000, seconds=0.05)
    assert 0 < len(done.times_s) < 1_000_000
    assert done.failed == 0


async def test_a_process_of_its_own_measures_the_same() -> None:
    """As `make bench-peers` does it, on uvloop."""
    async with serve([STREAM]) as port:
        with LoadProcess() as load:
            streams = await asyncio.to_thread(load.run_streams, port, 5, 30, is_health_watched=False)
            requests = await asyncio.to_thread(load.run_requests, port, [make_request("/x")], 2, count=4)
    assert streams.chunks == 15
    assert 0 < streams.cpu_share <= 1.5
    assert len(requests.times_s) == 4
