"""Admission: how many requests are checked and bound at the same time.

Parsing, validation and Flask cost a few milliseconds of the one interpreter each. A thousand that arrive together
would all begin at once, and a health check behind them would wait for the whole crowd. So a request waits here, before
anything of it is parsed, for one of a few places; it gives its place back when its work moves to the event loop.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SLOT_EXTENSION = "zoochat.admission"

# The server's own: who watches it must not queue behind those whom it serves.
UNLIMITED_PATHS = frozenset({"/health", "/ready", "/system_health", "/metrics"})


class ConcurrencySlot:
    """One request's place. Giving it back twice is giving it back once."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._semaphore = places
        self._is_held = True

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._semaphore.release()


class ConcurrencyLimitMiddleware:
    """ASGI middleware in front of Connexion: `places` requests at once, in the order of their arrival."""

    def __init__(self, app: ASGIApp, *, max_concurrent: int) -> None:
        self._app = app
        self._semaphore = asyncio.Semaphore(max_concurrent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        await self._semaphore.acquire()
        place = ConcurrencySlot(self._semaphore)

        async def send_and_leave(message: Message) -> None:
            place.release()
            await send(message)

        try:
            scope.setdefault("extensions", {})[SLOT_EXTENSION] = place
            await self._app(scope, receive, send_and_leave)
        finally:
            place.release()


def release_slot(scope: Scope) -> None:
    """Say that the request's work goes on on the event loop, where it is in nobody's way."""
    place = scope["extensions"].get(SLOT_EXTENSION)
    if place is not None:
        place.release()
