"""Keeps the messages of one session in the order in which they have arrived.

Requests are validated concurrently, and may overtake each other there. Which session a request is for is known only at
the end of that. So each request that may start a turn gets a ticket in the queue of its caller when it arrives. In that
order the requests get their tickets in the queues of their sessions, and in that order their turns are stored. Turns of
different sessions are stored concurrently.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.concurrency_limit import PendingTurns, name_queue, starts_turn
from openapi_server.http.operation_table import get_operation

ARRIVAL_EXTENSION = "zoochat.arrival"


class QueueTicket:
    """A place in a queue. Further calls of `leave` do nothing."""

    def __init__(self, queue: deque[QueueTicket], queues: dict[str, deque[QueueTicket]], key: str) -> None:
        self._queue = queue
        self._queues = queues
        self._key = key
        self._is_first = asyncio.Event()
        self._has_left = False
        queue.append(self)
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
        while self._queue and self._queue[0]._has_left:
            self._queue.popleft()
        if self._queue:
            self._let_first_pass()
        elif self._queues.get(self._key) is self._queue:
            del self._queues[self._key]

    def _let_first_pass(self) -> None:
        self._queue[0]._is_first.set()


class KeyedQueues:
    """A queue for each key that somebody waits for.

    >>> queues = KeyedQueues()
    >>> async def run_in_order(number, order):
    ...     ticket = queues.enter("key")
    ...     await asyncio.sleep(0.003 / number)
    ...     await ticket.wait()
    ...     order.append(number)
    ...     ticket.leave()
    >>> async def run():
    ...     order = []
    ...     await asyncio.gather(*(run_in_order(number, order) for number in (1, 2, 3)))
    ...     return order
    >>> asyncio.run(run()), len(queues)
    ([1, 2, 3], 0)
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[QueueTicket]] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def enter(self, key: str) -> QueueTicket:
        return QueueTicket(self._queues.setdefault(key, deque()), self._queues, key)


class Arrival:
    """The ticket of a request in the queue of its caller. `pending`: it is counted there until its turn is stored.

    One that says what it resumes (`is_resume`) is counted only when it starts a turn all the same.
    """

    def __init__(
        self,
        callers: KeyedQueues,
        sessions: KeyedQueues,
        caller: str,
        pending: PendingTurns | None = None,
        *,
        is_resume: bool = False,
    ) -> None:
        self._sessions = sessions
        self._ticket = callers.enter(caller)
        self._caller = caller
        self._pending = pending
        self._is_counted = False
        if not is_resume:
            self._count()

    def leave(self) -> None:
        """The request starts no turn, or has begun its answer."""
        self._ticket.leave()
        self._stop_waiting()

    def _count(self) -> None:
        if self._pending is not None and not self._is_counted:
            self._is_counted = True
            self._pending.enter(self._caller)

    def _stop_waiting(self) -> None:
        if self._pending is not None and self._is_counted:
            self._pending.leave(self._caller)
        self._pending = None

    @asynccontextmanager
    async def run_in_order(self, session_id: str | None) -> AsyncIterator[None]:
        """The block runs when those of all earlier requests for the session have ended. A new session has none.

        Raises `Overloaded` for a request that resumes nothing, and has not been counted, when too many wait.
        """
        if self._pending is not None and not self._is_counted:
            self._pending.require_place()
            self._count()
        if session_id is None:
            self._ticket.leave()
            yield
            self._stop_waiting()
            return
        await self._ticket.wait()
        ticket = self._sessions.enter(session_id)
        self._ticket.leave()
        try:
            await ticket.wait()
            yield
        finally:
            ticket.leave()
        self._stop_waiting()


class ArrivalOrderMiddleware:
    """ASGI middleware: gives each request that may start a turn a ticket, until its answer begins at the latest."""

    def __init__(self, app: ASGIApp, *, pending: PendingTurns) -> None:
        self._app = app
        self._pending = pending
        self._callers, self._sessions = KeyedQueues(), KeyedQueues()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = get_operation(scope) if scope["type"] == "http" else None
        if operation is None or operation.rate_limit != "turns":
            await self._app(scope, receive, send)
            return
        is_resume = not starts_turn(scope)
        arrival = Arrival(self._callers, self._sessions, name_queue(scope), self._pending, is_resume=is_resume)

        async def leave_and_send(message: Message) -> None:
            arrival.leave()
            await send(message)

        try:
            scope.setdefault("extensions", {})[ARRIVAL_EXTENSION] = arrival
            await self._app(scope, receive, leave_and_send)
        finally:
            arrival.leave()


def get_arrival(scope: Scope) -> Arrival | None:
    """The ticket of the request; None where it starts no turn."""
    arrival: Arrival | None = scope.get("extensions", {}).get(ARRIVAL_EXTENSION)
    return arrival
