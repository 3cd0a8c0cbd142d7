"""A limit for how many requests are parsed and validated at the same time.

Parsing, validation and Flask take a few milliseconds of the one interpreter for each request. If a thousand requests
that arrive together all started at once, a health check behind them would wait for all of them. So a request waits
here for one of a few slots before it is parsed, and releases its slot when its handler begins on the event loop:
streams hold none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SLOT_EXTENSION = "zoochat.concurrency_slot"

# Monitoring must not wait for the other requests.
UNLIMITED_PATHS = frozenset({"/health", "/ready", "/system_health", "/metrics"})


@dataclass(slots=True)
class WaitingRequests:
    """How many requests wait for a slot now."""

    count: int = 0


class ConcurrencySlot:
    """The slot of one request. Further calls of `release` do nothing."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._semaphore = places
        self._is_held = True

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._semaphore.release()


class ConcurrencyLimitMiddleware:
    """ASGI middleware: lets `max_concurrent` requests pass at once, in the order of their arrival."""

    def __init__(self, app: ASGIApp, *, max_concurrent: int, waiting: WaitingRequests) -> None:
        self._app = app
        self._waiting = waiting
        self._semaphore = asyncio.Semaphore(max_concurrent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        self._waiting.count += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting.count -= 1
        slot = ConcurrencySlot(self._semaphore)

        async def send_and_release(message: Message) -> None:
            slot.release()
            await send(message)

        try:
            scope.setdefault("extensions", {})[SLOT_EXTENSION] = slot
            await self._app(scope, receive, send_and_release)
        finally:
            slot.release()


def release_slot(scope: Scope) -> None:
    """Release the slot of the request, if it has one."""
    slot = scope["extensions"].get(SLOT_EXTENSION)
    if slot is not None:
        slot.release()
