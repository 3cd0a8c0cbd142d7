"""Slow readers: a client that stays connected but reads nothing is dropped after a time."""

from __future__ import annotations

import asyncio
from types import TracebackType

import structlog
from starlette.types import Message, Scope, Send

from openapi_server.clock import DeadlineTimer

# The ASGI extension under which `uvicorn_protocol` provides the connection's transport, so that it can be aborted.
TRANSPORT_EXTENSION = "zoochat.transport"

log = structlog.get_logger(__name__)


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
