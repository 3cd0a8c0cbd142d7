"""Clients that disconnect, and clients that stay connected but read nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.clock import DeadlineTimer
from openapi_server.http.error_handlers import make_error_response
from openapi_server.models.errors import ChatError

T = TypeVar("T")

# The ASGI extension under which `uvicorn_protocol` provides the connection's transport, so that it can be aborted.
TRANSPORT_EXTENSION = "zoochat.transport"

log = structlog.get_logger(__name__)


async def run_until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work; None when the client disconnected before, which cancels the work."""
    disconnect = asyncio.create_task(_wait_for_disconnect(receive))
    # A client that has left already is noticed before the work begins.
    await _yield_to_loop(work, disconnect)
    if disconnect.done():
        work.close()
        return None
    # Not an anyio task group, nor Starlette's StreamingResponse over one: measured 200 µs a stream instead of 55.
    working = asyncio.create_task(work)
    try:
        await asyncio.wait((working, disconnect), return_when=asyncio.FIRST_COMPLETED)
    finally:
        disconnect.cancel()
        working.cancel()
        await asyncio.wait((working,))
    return None if working.cancelled() else working.result()


async def _yield_to_loop(work: Coroutine[Any, Any, T], disconnect: asyncio.Task[None]) -> None:
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        work.close()
        disconnect.cancel()
        raise


class AwaitedResponse:
    """ASGI response that is made while the client waits for it. When the client disconnects, that work is cancelled.

    `respond` may raise `ChatError`.
    """

    def __init__(self, respond: Callable[[], Coroutine[Any, Any, ASGIApp]]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await run_until_disconnect(receive, self._respond())
        except ChatError as error:
            response = make_error_response(error)
        if response is not None:
            await response(scope, receive, send)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class SendTimeout:
    """A `send` that aborts the connection when one message cannot be sent within `timeout_s` seconds.

    It aborts instead of closing: closing would wait until the client has read what is buffered for it.
    """

    def __init__(self, send: Send, scope: Scope, timeout_s: float) -> None:
        self._send = send
        self._transport = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
        self._timeout_s = timeout_s
        self._timer = DeadlineTimer(self._abort)

    async def __call__(self, message: Message) -> None:
        self._timer.set(self._timeout_s)
        await self._send(message)
        self._timer.clear()
        if message.get("more_body") and self._transport is not None and self._transport.is_closing():
            # Aborted, here or by the kernel. uvicorn would discard all further messages silently: stop producing them.
            raise asyncio.CancelledError

    def __enter__(self) -> SendTimeout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _abort(self) -> None:
        log.info("reader_dropped", timeout_s=self._timeout_s)
        if self._transport is not None:
            self._transport.abort()
