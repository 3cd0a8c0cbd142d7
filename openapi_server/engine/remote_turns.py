"""Turns that run in other processes: who reads them here, how they are stopped from here, and how they ended.

The store decides how a turn ended, and the event log carries the rest from process to process.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from openapi_server.models.errors import Interrupted, LogGone, SessionDeleted, StoreUnavailable
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn import TurnRecord
from openapi_server.models.turn_events import Failed
from openapi_server.protocols import EventLog, Signal, Store

# How long a stopped turn has to end, and how often the store is asked, in seconds.
STOP_WAIT_S, STOP_POLL_S = 5.0, 0.05
# How often a turn's process is told that the turn is read: a part of the time that a turn goes on without readers.
TOLD_PER_GRACE = 3
SHORTEST_TELL_S = 0.1

log = structlog.get_logger(__name__)


class RemoteTurns:
    """`orphan_grace_s`: how long a turn goes on without readers; 0: its process need not know of readers here."""

    def __init__(self, store: Store, event_log: EventLog, orphan_grace_s: float) -> None:
        self._store = store
        self._log = event_log
        self._orphan_grace_s = orphan_grace_s
        self._readers: Counter[str] = Counter()

    async def add_reader(self, turn_id: str) -> None:
        self._readers[turn_id] += 1
        await self._log.signal(turn_id, Signal.READ)

    def remove_reader(self, turn_id: str) -> None:
        self._readers[turn_id] -= 1
        if self._readers[turn_id] <= 0:
            del self._readers[turn_id]

    def is_read(self, turn_id: str) -> bool:
        return turn_id in self._readers

    async def tell_readers(self) -> None:
        """Tell the other processes which of their turns are read here, for ever: else they would end them."""
        if not self._orphan_grace_s:
            return
        while True:
            await asyncio.sleep(max(SHORTEST_TELL_S, self._orphan_grace_s / TOLD_PER_GRACE))
            for turn_id in list(self._readers):
                await self._log.signal(turn_id, Signal.READ)

    async def stop(self, turn_id: str) -> TurnRecord | None:
        """Have the turn stopped by its process. The stored turn when it has ended; None when it could not be reached
        or takes too long."""
        if not await self._log.signal(turn_id, Signal.STOP):
            return None
        for _ in range(round(STOP_WAIT_S / STOP_POLL_S)):
            turn = await self._store.get_turn(turn_id)
            if turn is None or turn.outcome is not None:
                return turn
            await asyncio.sleep(STOP_POLL_S)
        return None

    async def end_log(self, turn_id: str) -> None:
        """The turn was settled as interrupted, because its process is dead."""
        await self._log.end(turn_id, Failed(Interrupted().problem))

    async def check_quiet(self, quiet_s: float) -> None:
        """End the logs of turns that have ended, where their processes have not said so.

        A process may die between the two steps, and a log may fall back to an earlier state.
        """
        for turn_id in self._log.list_quiet(quiet_s):
            try:
                turn = await self._store.get_turn(turn_id)
            except StoreUnavailable:
                return
            if turn is None or turn.outcome is not None:
                log.warning("turn_end_missing", turn=shorten_id(turn_id))
                await self._log.end(turn_id, make_ending(turn))


def make_ending(turn: TurnRecord | None) -> Failed:
    """What readers are told of a turn that has ended, and whose last events are lost."""
    if turn is None:
        return Failed(SessionDeleted().problem)
    if turn.outcome is not None and turn.outcome.problem is not None:
        return Failed(turn.outcome.problem)
    error = LogGone("The turn has ended, and its last events are lost. Its reply is kept.", turn_id=turn.turn_id)
    return Failed(error.problem)
