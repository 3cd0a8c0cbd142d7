"""The turns of this process that wait for the earlier turns of their session.

The store keeps the order, for the turns of all processes. A queued turn asks it to start whenever a turn of its session
has ended in this process, and from time to time while it waits for one of another process.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from openapi_server.engine.leases import Leases
from openapi_server.engine.turn_request import TurnRequest
from openapi_server.models.errors import StoreUnavailable, TurnRunning
from openapi_server.models.ids import shorten_id
from openapi_server.protocols import Clock, Store

# How often a turn asks that waits for a turn of another process, in seconds.
POLL_S = 0.5

log = structlog.get_logger(__name__)


class TurnQueue:
    """Lets queued turns run in order of arrival, one a session. `timeout_s`: the longest wait."""

    def __init__(self, store: Store, clock: Clock, leases: Leases, timeout_s: float) -> None:
        self._store = store
        self._clock = clock
        self._leases = leases
        self._timeout_s = timeout_s
        self._waiting: dict[str, list[asyncio.Event]] = {}

    def __len__(self) -> int:
        return sum(len(events) for events in self._waiting.values())

    def wake(self, session_id: str) -> None:
        """A turn of the session has ended: those that wait look whether it was the last one before them."""
        for has_changed in self._waiting.get(session_id, ()):
            has_changed.set()

    async def wait(self, turn_id: str, session_id: str, request: TurnRequest) -> None:
        """Return when the turn runs in the store, with its credits reserved.

        Raises `TurnRunning` when that took too long, `InsufficientCredits`, `StoreUnavailable`, or `TurnNotFound` when
        the turn was deleted or settled by another process.
        """
        has_changed = asyncio.Event()
        waiting = self._waiting.setdefault(session_id, [])
        waiting.append(has_changed)
        ahead: str | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                while (ahead := await self._try_to_start(turn_id, request)) is not None:
                    await self._wait_for_change(has_changed, is_polling=not self._leases.is_own(ahead))
        except TimeoutError:
            message = "The message has waited too long for the one before it. Send it again later."
            raise TurnRunning(message, turn_id=ahead) from None
        finally:
            waiting.remove(has_changed)
            if not waiting:
                self._waiting.pop(session_id, None)

    async def _try_to_start(self, turn_id: str, request: TurnRequest) -> str | None:
        """None when the turn runs now, else the id of the turn that it waits for."""
        try:
            return await self._store.start_queued_turn(turn_id, self._clock.now(), request.charge)
        except StoreUnavailable:
            if not request.is_storage_optional:
                raise
            log.warning("The store is unavailable: answering without memory", turn=shorten_id(turn_id))
            return None

    async def _wait_for_change(self, has_changed: asyncio.Event, *, is_polling: bool) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(has_changed.wait(), POLL_S if is_polling else None)
        has_changed.clear()
