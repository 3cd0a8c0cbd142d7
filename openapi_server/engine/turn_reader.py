"""The readers of a turn: any number, from any entry on. The writer never waits for a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from openapi_server.models.errors import Draining
from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Chunk, Completed, Entry, Failed, StageChanged
from openapi_server.protocols import Clock, Tail


class TurnReader:
    """Reads one turn, as a context manager: on exit it is closed, and `on_close` is called.

    `stage` is the latest stage read, `terminal_event` the turn's last event once it was read. `history` are the
    entries before the tail's position. `is_queued`: the turn waited for an earlier one when the reader was opened.
    """

    def __init__(
        self,
        turn_id: str,
        history: Sequence[Entry],
        tail: Tail,
        clock: Clock,
        on_close: Callable[[TurnReader], None] = lambda reader: None,
        *,
        is_queued: bool = False,
    ) -> None:
        self.turn_id = turn_id
        self.is_queued = is_queued
        self.stage: Stage | None = None
        self.terminal_event: Completed | Failed | None = None
        self._tail = tail
        self._clock = clock
        self._started_at = history[0].at if history else clock.now()
        self._on_close = on_close
        self._is_closed = False
        self._observe(history)

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the turn's first event, by the time of day: the writer may be another process."""
        return max(0, round((self._clock.now() - self._started_at).total_seconds() * 1000))

    @property
    def is_over(self) -> bool:
        return self._tail.is_over

    @property
    def ending(self) -> Failed | None:
        """How the turn ended, where that is not in its log: it has no number. None before everything else was read."""
        return self._tail.ending if self.is_over else None

    @property
    def is_cut_off(self) -> bool:
        """This process ends, and the turn goes on in another one."""
        return self.is_over and self._tail.is_cut_off and self.terminal_event is None

    async def read(self, wait_s: float) -> Sequence[Entry]:
        """New entries. Waits up to `wait_s` seconds for the first; empty when there was none in that time."""
        entries = await self._tail.read(wait_s)
        self._observe(entries)
        if self.terminal_event is None:
            self.terminal_event = self.ending
        return entries

    async def read_to_end(self, wait_s: float = 60) -> Completed | Failed | None:
        """Read up to the terminal event and return it; None when the log was deleted before there was one."""
        while not self.is_over:
            await self.read(wait_s)
        return Failed(Draining().problem) if self.is_cut_off else self.terminal_event

    def _observe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            event = entry.event
            if isinstance(event, Chunk):
                # Most of them are.
                continue
            if isinstance(event, StageChanged):
                self.stage = event.stage
            elif isinstance(event, (Completed, Failed)):
                self.terminal_event = event

    def close(self) -> None:
        """Also what leaving the context does; a second time it does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._tail.close()
            self._on_close(self)

    def __enter__(self) -> TurnReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
