"""Clients that leave, and clients that stay but take nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

import structlog
from starlette.types import Message, Receive, Scope, Send

from openapi_server.clock import DeadlineTimer

T = TypeVar("T")

# Where the server's protocol leaves the transport of a connection, for those who must be dropped without a word.
TRANSPORT_EXTENSION = "zoochat.transport"

log = structlog.get_logger(__name__)


async def run_until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Do the work, but stop it as soon as the client has left; None when it did."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait((working,))
    return None if working.cancelled() else working.result()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class SendTimeout:
    """A `send` that drops the connection when one message is not taken within `timeout_s` seconds.

    Dropped, not closed: closing would first wait for the client to take what is buffered for it.
    """

    def __init__(self, send: Send, scope: Scope, timeout_s: float) -> None:
        self._send = send
        self._transport = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
        self._timeout_s = timeout_s
        self._timer = DeadlineTimer(self._drop)

    async def __call__(self, message: Message) -> None:
        self._timer.set(self._timeout_s)
        await self._send(message)
        self._timer.clear()
        if message.get("more_body") and self._transport is not None and self._transport.is_closing():
            # Dropped, by us or by the kernel. uvicorn would take all the rest without a word: read nothing more for it.
            raise asyncio.CancelledError

    def __enter__(self) -> SendTimeout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _drop(self) -> None:
        log.info("reader_dropped", timeout_s=self._timeout_s)
        if self._transport is not None:
            self._transport.abort()
