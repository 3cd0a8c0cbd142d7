"""Keeps the messages of one session in the order in which they have arrived.

Requests are validated side by side and in threads, and may overtake each other there. Which session a request is for is
known at its end only. So each request that may start a turn takes a place among those of its caller when it arrives. In
that order they take their places among those of their sessions, and in that order their turns are stored. The turns of
different sessions are stored side by side.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.addresses import get_operation
from openapi_server.http.concurrency_limit import PendingTurns, name_queue, starts_turn

ARRIVAL_EXTENSION = "zoochat.arrival"


class Place:
    """A place in a line. Further calls of `leave` do nothing."""

    def __init__(self, line: deque[Place], lines: dict[str, deque[Place]], key: str) -> None:
        self._line = line
        self._lines = lines
        self._key = key
        self._is_first = asyncio.Event()
        self._has_left = False
        line.append(self)
        self._let_first_pass()

    async def wait(self) -> None:
        """Return when all that have come before have left."""
        await self._is_first.wait()

    def leave(self) -> None:
        if self._has_left:
            return
        self._has_left = True
        # Whoever has left waits for nobody, should the same request begin a second turn.
        self._is_first.set()
        while self._line and self._line[0]._has_left:
            self._line.popleft()
        if self._line:
            self._let_first_pass()
        elif self._lines.get(self._key) is self._line:
            del self._lines[self._key]

    def _let_first_pass(self) -> None:
        self._line[0]._is_first.set()


class Lines:
    """Lines of places, by a key.

    >>> lines = Lines()
    >>> async def come(number, told):
    ...     place = lines.enter("key")
    ...     await asyncio.sleep(0.003 / number)
    ...     await place.wait()
    ...     told.append(number)
    ...     place.leave()
    >>> async def run():
    ...     told = []
    ...     await asyncio.gather(*(come(number, told) for number in (1, 2, 3)))
    ...     return told
    >>> asyncio.run(run()), len(lines)
    ([1, 2, 3], 0)
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[Place]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def enter(self, key: str) -> Place:
        return Place(self._lines.setdefault(key, deque()), self._lines, key)


class Arrival:
    """The place of a request among those of its caller. `pending`: it is counted there until its turn is stored."""

    def __init__(self, callers: Lines, sessions: Lines, caller: str, pending: PendingTurns | None = None) -> None:
        self._sessions = sessions
        self._place = callers.enter(caller)
        self._caller = caller
        self._pending = pending
        if pending is not None:
            pending.enter(caller)

    def leave(self) -> None:
        """The request starts no turn, or has begun its answer."""
        self._place.leave()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._pending is not None:
            self._pending.leave(self._caller)
            self._pending = None

    @asynccontextmanager
    async def take_turns(self, session_id: str | None) -> AsyncIterator[None]:
        """The block runs when those of all earlier requests for the session have ended. A new session has none."""
        if session_id is None:
            self._place.leave()
            yield
            self._stop_waiting()
            return
        await self._place.wait()
        place = self._sessions.enter(session_id)
        self._place.leave()
        try:
            await place.wait()
            yield
        finally:
            place.leave()
        self._stop_waiting()


class ArrivalOrderMiddleware:
    """ASGI middleware: gives each request that may start a turn its place, until its answer begins at the latest."""

    def __init__(self, app: ASGIApp, *, pending: PendingTurns) -> None:
        self._app = app
        self._pending = pending
        self._callers, self._sessions = Lines(), Lines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = get_operation(scope) if scope["type"] == "http" else None
        if operation is None or operation.rate_limit != "turns":
            await self._app(scope, receive, send)
            return
        pending = self._pending if starts_turn(scope) else None
        arrival = Arrival(self._callers, self._sessions, name_queue(scope), pending)

        async def leave_and_send(message: Message) -> None:
            arrival.leave()
            await send(message)

        try:
            scope.setdefault("extensions", {})[ARRIVAL_EXTENSION] = arrival
            await self._app(scope, receive, leave_and_send)
        finally:
            arrival.leave()


def get_arrival(scope: Scope) -> Arrival | None:
    """The place of the request; None where it starts no turn."""
    arrival: Arrival | None = scope.get("extensions", {}).get(ARRIVAL_EXTENSION)
    return arrival
