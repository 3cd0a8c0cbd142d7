"""Clients that disconnect, and clients that stay connected but read nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

import structlog
from starlette.types import Message, Receive, Scope, Send

from openapi_server.clock import DeadlineTimer

T = TypeVar("T")

# The ASGI extension under which `uvicorn_protocol` provides the connection's transport, so that it can be aborted.
TRANSPORT_EXTENSION = "zoochat.transport"

log = structlog.get_logger(__name__)


async def run_until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work; None when the client disconnected before, which cancels the work."""
    # Not an anyio task group, nor Starlette's StreamingResponse over one: measured 200 µs a stream instead of 55.
    working = asyncio.create_task(work)
    disconnect = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((working, disconnect), return_when=asyncio.FIRST_COMPLETED)
    finally:
        disconnect.cancel()
        working.cancel()
        await asyncio.wait((working,))
    return None if working.cancelled() else working.result()


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
