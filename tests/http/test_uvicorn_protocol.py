"""uvicorn's protocol as the server uses it, over a real connection."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from openapi_server.http.uvicorn_protocol import make_protocol_class

REQUEST = b"GET / HTTP/1.1\r\nHost: zoo.example\r\n\r\n"


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

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    make_protocol = make_protocol_class(head_timeout_s=5, peer_timeout_s=5)
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: make_protocol(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        "127.0.0.1",
        0,
    )
    async with asyncio.timeout(10), server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(3 * REQUEST)
        await has_begun.wait()
        writer.transport.abort()
        await has_ended.wait()
        await asyncio.gather(*state.tasks)

    assert (errors, run_count) == ([], 1)
