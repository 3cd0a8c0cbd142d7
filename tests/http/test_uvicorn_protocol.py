"""uvicorn's protocol as the server uses it, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from openapi_server.http.uvicorn_protocol import STARTED_PER_ROUND, make_protocol_class

REQUEST = b"GET / HTTP/1.1\r\nHost: zoo.example\r\n\r\n"


def make_protocols(app: ASGIApp, state: ServerState) -> Iterator[Any]:
    """The protocols of further and further connections of one server."""
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    make_protocol: Any = make_protocol_class(head_timeout_s=5, peer_timeout_s=5)
    while True:
        yield make_protocol(config=config, server_state=state, app_state={})


class FakeTransport(asyncio.Transport):
    """A connection that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def test_a_client_that_leaves_with_more_requests_waiting_is_noticed() -> None:
    """The request that runs is told, though it is not the latest; sending to the closed connection is no error, and the
    requests behind it do not run."""
    has_begun, has_ended = asyncio.Event(), asyncio.Event()
    errors: list[Exception] = []
    run_count = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal run_count
        run_count += 1
        has_begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 100_000})
        except Exception as error:
            errors.append(error)
        has_ended.set()

    state = ServerState()
    protocols = make_protocols(app, state)
    server = await asyncio.get_running_loop().create_server(lambda: next(protocols), "127.0.0.1", 0)
    async with asyncio.timeout(10), server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(3 * REQUEST)
        await has_begun.wait()
        writer.transport.abort()
        await has_ended.wait()
        await asyncio.gather(*state.tasks)

    assert (errors, run_count) == ([], 1)


async def test_a_few_requests_begin_in_each_round_and_health_checks_at_once() -> None:
    """Beginning a request takes up to a millisecond: behind hundreds that arrived together others would wait."""
    count = 3 * STARTED_PER_ROUND
    begun: list[str] = []
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await may_end.wait()
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})

    async def run_rounds(number: int) -> list[str]:
        for _ in range(number):
            await asyncio.sleep(0)
        return begun

    state, transports = ServerState(), [FakeTransport() for _ in range(count + 2)]
    for number, (protocol, transport) in enumerate(zip(make_protocols(app, state), transports, strict=False)):
        path = {count: "/health", count + 1: "/api/health"}.get(number, "/convo_turn_stream")
        protocol.connection_made(transport)
        protocol.data_received(f"GET {path} HTTP/1.1\r\nHost: zoo.example\r\n\r\n".encode())

    # A request that is due becomes a task, which runs in the round after.
    assert await run_rounds(1) == ["/health", "/api/health"]
    while len(begun) < 2 + count:
        before = len(begun)
        await run_rounds(1)
        # Fewer where they take long.
        assert 0 < len(begun) - before <= STARTED_PER_ROUND
    may_end.set()
    await asyncio.gather(*state.tasks)
    assert all(transport.is_closing() for transport in transports)


class RecordingTransport(FakeTransport):
    """A connection that notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.was_written = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self.was_written.set()


async def receive_writes(app: ASGIApp, request: bytes = REQUEST) -> list[bytes]:
    """What is written to the connection of one request, each write by itself."""
    state, transport, has_ended = ServerState(), RecordingTransport(), asyncio.Event()

    async def run_app(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        has_ended.set()

    protocol = next(make_protocols(run_app, state))
    protocol.connection_made(transport)
    protocol.data_received(request)
    async with asyncio.timeout(10):
        await has_ended.wait()
        await transport.was_written.wait()
    return transport.writes


async def test_a_head_leaves_in_one_write_with_what_follows_at_once() -> None:
    """Each write takes longer than all that makes a small answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"Roar!", "more_body": True})
        await send({"type": "http.response.body", "body": b"Purr."})

    first, second = await receive_writes(app)

    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n5\r\nRoar!\r\n")
    assert second == b"5\r\nPurr.\r\n0\r\n\r\n"


async def test_a_head_whose_body_takes_longer_leaves_alone() -> None:
    """A client learns at once that it is connected."""
    may_go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await may_go_on.wait()
        await send({"type": "http.response.body", "body": b"Roar!"})

    state, transport = ServerState(), RecordingTransport()
    protocol = next(make_protocols(app, state))
    protocol.connection_made(transport)
    protocol.data_received(REQUEST)
    async with asyncio.timeout(10):
        await transport.was_written.wait()
    may_go_on.set()
    await asyncio.gather(*state.tasks)

    head, body = transport.writes
    assert head.endswith(b"\r\n\r\n")
    assert body == b"5\r\nRoar!\r\n0\r\n\r\n"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_an_answer_without_a_body_leaves_before_the_connection_is_closed(method: str) -> None:
    """Also a head that nothing follows."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    request = REQUEST.replace(b"GET", method.encode())
    (head,) = [part for part in await receive_writes(app, request) if part]

    assert head.endswith(b"connection: close\r\n\r\n")


async def test_a_client_that_waits_before_its_body_is_told_to_send_it() -> None:
    """ "100 Continue" is no head that waits for a body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    request = b"POST / HTTP/1.1\r\nHost: zoo.example\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
    first, *rest = await receive_writes(app, request)

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"".join(rest).startswith(b"HTTP/1.1 204")
