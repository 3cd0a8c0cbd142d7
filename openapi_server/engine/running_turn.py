"""A turn that runs in this process: its task, its readers, and why it is cut short, if it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openapi_server.engine.turn_writer import TurnWriter
from openapi_server.models.errors import ChatError
from openapi_server.models.turn import FinishReason
from openapi_server.models.turn_events import TurnResult


class RunningTurn:
    """Once a turn is ending, nothing can end it another way.

    `orphan_grace_s`: how long it goes on when its last reader has left. A turn that nobody ever read is polled, and
    is nobody's orphan.
    """

    def __init__(
        self,
        writer: TurnWriter,
        orphan_grace_s: float,
        on_orphaned: Callable[[RunningTurn], None],
        *,
        is_stored: bool = True,
    ) -> None:
        self.writer = writer
        self.is_stored = is_stored
        self.task: asyncio.Task[None] | None = None
        self.cancel_result: TurnResult | ChatError | None = None
        self.has_started = False
        self.is_finishing = False
        self._orphan_grace_s = orphan_grace_s
        self._on_orphaned = on_orphaned
        self._readers = 0
        self._orphan_timer: asyncio.TimerHandle | None = None

    def cancel(self, ending: TurnResult | ChatError) -> None:
        if self.cancel_result is None and not self.is_finishing:
            self.cancel_result = ending
            # A task that is cancelled before its first step never takes it, and nobody would write the end.
            if self.has_started and self.task is not None:
                self.task.cancel()

    def stop(self) -> None:
        """End it with what was said so far."""
        writer = self.writer
        self.cancel(
            TurnResult(
                FinishReason.STOPPED,
                usage=writer.usage_so_far,
                moderation=writer.moderation,
                held_back_ms=writer.held_back_ms,
            )
        )

    @property
    def ends_soon(self) -> bool:
        """Somebody has ended it, or will as soon as it is seen that its reader has left."""
        return self.is_finishing or self.cancel_result is not None or self._orphan_grace_s == 0

    def add_reader(self) -> None:
        self._readers += 1
        self._clear_orphan_timer()

    def remove_reader(self) -> None:
        self._readers -= 1
        if self._readers == 0:
            self._start_orphan_timer()

    def record_poll(self) -> None:
        """Somebody still wants to know: an orphan's grace begins anew."""
        if self._orphan_timer is not None:
            self._start_orphan_timer()

    def _start_orphan_timer(self) -> None:
        self._clear_orphan_timer()
        if not self.is_finishing:
            loop = asyncio.get_running_loop()
            self._orphan_timer = loop.call_later(self._orphan_grace_s, self._on_orphaned, self)

    def _clear_orphan_timer(self) -> None:
        if self._orphan_timer is not None:
            self._orphan_timer.cancel()
            self._orphan_timer = None

    def start_finishing(self) -> None:
        self.is_finishing = True
        self._clear_orphan_timer()
