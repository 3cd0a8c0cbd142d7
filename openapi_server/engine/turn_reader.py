"""Readers of a turn: any number of them, from any point, none of which the writer ever waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Completed, Entry, Failed, StageChanged
from openapi_server.protocols import Clock, Tail


class TurnReader:
    """One reader of one turn. `stage` is the last that it heard of, `ending` the terminal event once it was read.

    Use it as a context manager: leaving takes it off the list of readers, however it leaves.
    """

    def __init__(self, turn_id: str, history: Sequence[Entry], tail: Tail, clock: Clock) -> None:
        self.turn_id = turn_id
        self.stage: Stage | None = None
        self.terminal_event: Completed | Failed | None = None
        self._tail = tail
        self._clock = clock
        self._started_at = history[0].at if history else clock.now()
        self._on_leave: Callable[[TurnReader], None] = lambda reader: None
        self._observe(history)

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the turn's first event, by the clock on the wall: readers may sit in another process."""
        return max(0, round((self._clock.now() - self._started_at).total_seconds() * 1000))

    @property
    def is_over(self) -> bool:
        return self._tail.is_over

    async def read(self, wait_s: float) -> Sequence[Entry]:
        """New entries, or none when `wait_s` seconds went by in silence."""
        entries = await self._tail.read(wait_s)
        self._observe(entries)
        return entries

    async def read_to_end(self, wait_s: float = 60) -> Completed | Failed | None:
        """Read until the terminal event and return it; None when the log was dropped before there was one."""
        while not self.is_over:
            await self.read(wait_s)
        return self.terminal_event

    def _observe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            match entry.event:
                case StageChanged(stage=stage):
                    self.stage = stage
                case Completed() | Failed() as ending:
                    self.terminal_event = ending

    def on_leave(self, callback: Callable[[TurnReader], None]) -> None:
        self._on_leave = callback

    def __enter__(self) -> TurnReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tail.close()
        self._on_leave(self)
