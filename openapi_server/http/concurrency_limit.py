"""Admission: how many requests are checked and bound at the same time.

Parsing, validation and Flask cost a few milliseconds of the one interpreter each. A thousand that arrive together
would all begin at once, and a health check behind them would wait for the whole crowd. So a request waits here, before
anything of it is parsed, for one of a few places; it gives its place back when its work moves to the event loop.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXTENSION = "zoochat.admission"

# The server's own: who watches it must not queue behind those whom it serves.
UNQUEUED = frozenset({"/health", "/ready", "/system_health", "/metrics"})


class Place:
    """One request's place. Giving it back twice is giving it back once."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._is_held = True

    def give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._places.release()


class Admission:
    """ASGI middleware in front of Connexion: `places` requests at once, in the order of their arrival."""

    def __init__(self, app: ASGIApp, *, places: int) -> None:
        self._app = app
        self._places = asyncio.Semaphore(places)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNQUEUED:
            await self._app(scope, receive, send)
            return
        await self._places.acquire()
        place = Place(self._places)

        async def send_and_leave(message: Message) -> None:
            place.give_back()
            await send(message)

        try:
            scope.setdefault("extensions", {})[EXTENSION] = place
            await self._app(scope, receive, send_and_leave)
        finally:
            place.give_back()


def give_place_back(scope: Scope) -> None:
    """Say that the request's work goes on on the event loop, where it is in nobody's way."""
    place = scope["extensions"].get(EXTENSION)
    if place is not None:
        place.give_back()
