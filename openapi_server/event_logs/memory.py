"""Event logs in the memory of one server process, which is the default.

The writer never waits for a reader. A reader registers for wake-ups first and then reads the one list of entries from
its own position, so there is neither a gap nor a repetition between the entries of the past and the live ones.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from openapi_server.clock import DeadlineTimer
from openapi_server.models.turn_events import Entry, Failed, TurnEvent
from openapi_server.protocols import Clock, EntryAhead, LogClosed, Signal
from openapi_server.round_queue import RoundQueue

# With a thousand streams, waking all readers at once would occupy the event loop for a tenth of a second. Under
# overload readers wait longer and then find several entries at once, which leave in one write: chunks get larger, not
# later.
WAKES_PER_ROUND, WAKES_S_PER_ROUND = 128, 0.003


class TurnLog:
    """The entries of one turn, and its readers that wait for more.

    `ending`: how the turn ended, where that is not in the log. `is_cut_off`: it goes on in another process.
    """

    __slots__ = ("_queue", "closed_at_s", "ending", "entries", "is_cut_off", "is_deleted", "waiting")

    def __init__(self, queue: RoundQueue) -> None:
        self._queue = queue
        self.entries: list[Entry] = []
        self.waiting: set[asyncio.Future[None]] = set()
        self.closed_at_s: float | None = None
        self.is_deleted = False
        self.ending: Failed | None = None
        self.is_cut_off = False

    @property
    def is_closed(self) -> bool:
        return self.closed_at_s is not None or self.ending is not None or self.is_deleted or self.is_cut_off

    def wake(self) -> None:
        """Wake those that wait. Once: whoever is woken finds all that has come by then."""
        if self.waiting:
            for waiter in self.waiting:
                self._queue.add(partial(_wake, waiter))
            self.waiting.clear()


class MemoryTail:
    """A reader's position in the log of a turn."""

    def __init__(self, log: TurnLog, after: int) -> None:
        self._log = log
        self._last_seq = after
        self._waiter: asyncio.Future[None] | None = None
        self._timer = DeadlineTimer(self._wake)

    async def read(self, wait_s: float) -> Sequence[Entry]:
        fresh = self._take()
        if fresh or self.is_over:
            return fresh
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        self._log.waiting.add(waiter)
        self._timer.set(wait_s)
        try:
            await waiter
        finally:
            self._log.waiting.discard(waiter)
            self._timer.clear()
        return self._take()

    def _wake(self) -> None:
        if self._waiter is not None:
            _wake(self._waiter)

    def _take(self) -> Sequence[Entry]:
        fresh = self._log.entries[self._last_seq :]
        self._last_seq += len(fresh)
        return fresh

    @property
    def is_over(self) -> bool:
        log = self._log
        return self._last_seq >= len(log.entries) and log.is_closed

    @property
    def ending(self) -> Failed | None:
        return self._log.ending

    @property
    def is_cut_off(self) -> bool:
        return self._log.is_cut_off

    def close(self) -> None:
        self._timer.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class MemoryEventLog:
    """The logs of all turns of this process.

    The log of a finished turn is kept for `replay_window_s` seconds. Beyond `max_turns` finished turns, those that
    ended first are deleted first, and `on_dropped` is called with the id of each.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        replay_window_s: float = 600,
        max_turns: int = 10_000,
        on_dropped: Callable[[str], None] = lambda turn_id: None,
    ) -> None:
        self._clock = clock
        self._replay_window_s = replay_window_s
        self._max_turns = max_turns
        self._on_dropped = on_dropped
        self._queue = RoundQueue(WAKES_PER_ROUND, WAKES_S_PER_ROUND)
        self._logs: dict[str, TurnLog] = {}
        self._finished: OrderedDict[str, TurnLog] = OrderedDict()

    is_shared = False
    # No other process reads here, or is read.
    waiting_count, mirror_count = 0, 0

    @property
    def turn_count(self) -> int:
        """How many turns have a log now."""
        return len(self._logs)

    async def create(self, turn_id: str) -> None:
        self._delete_expired()
        if turn_id in self._logs:
            raise ValueError("a turn has one log")
        self._logs[turn_id] = TurnLog(self._queue)

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        log = self._logs.get(turn_id)
        if log is None or log.closed_at_s is not None:
            raise LogClosed(turn_id)
        for event in events[:-1]:
            if event.is_terminal:
                raise ValueError("a terminal event must be the last")
        at = self._clock.now()
        first_seq = len(log.entries) + 1
        fresh = [Entry(turn_id, seq, at, event) for seq, event in enumerate(events, first_seq)]
        log.entries.extend(fresh)
        if events and events[-1].is_terminal:
            log.closed_at_s = self._clock.monotonic()
            self._finished[turn_id] = log
            self._delete_expired()
        log.wake()
        return fresh

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        self._delete_expired()
        log = self._logs.get(turn_id)
        return None if log is None else tuple(log.entries)

    async def open_tail(self, turn_id: str, after: int = 0) -> MemoryTail | None:
        self._delete_expired()
        log = self._logs.get(turn_id)
        if log is None:
            return None
        if after > len(log.entries):
            raise EntryAhead
        return MemoryTail(log, after)

    async def end(self, turn_id: str, event: Failed) -> None:
        """No other process has a log of its own turns here."""

    def renew(self, turn_ids: Sequence[str]) -> None:
        """The logs of running turns do not expire."""

    async def signal(self, turn_id: str, signal: Signal) -> bool:
        return False

    def listen(self, on_signal: Callable[[Signal, str], None]) -> None:
        """Nobody else can reach this process."""

    def list_quiet(self, quiet_s: float) -> Sequence[str]:
        return ()

    def cut_off(self) -> None:
        """All turns that are read here run here."""

    async def delete(self, turn_id: str) -> None:
        self._finished.pop(turn_id, None)
        log = self._logs.pop(turn_id, None)
        if log is not None:
            log.is_deleted = True
            log.wake()

    def _delete_expired(self) -> None:
        """Delete expired logs. Open tails keep their own reference to the log and can be read to the end."""
        oldest_s = self._clock.monotonic() - self._replay_window_s
        while self._finished:
            turn_id, log = next(iter(self._finished.items()))
            closed_at_s = log.closed_at_s or 0.0
            is_old = closed_at_s <= oldest_s
            if not is_old and len(self._finished) <= self._max_turns:
                return
            del self._finished[turn_id]
            self._logs.pop(turn_id, None)
            if not is_old:
                self._on_dropped(turn_id)
