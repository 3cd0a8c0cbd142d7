"""The writer of a turn: appends the turn's events to its log, with the times they need."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from openapi_server.instruments import NoTrace, NoTurnMetrics, TurnMetrics, TurnTrace
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn import Moderation, Stage, Usage
from openapi_server.models.turn_event_order import TurnEventBuilder
from openapi_server.models.turn_events import Completed, Failed, Started, TurnEvent
from openapi_server.protocols import Clock, EventLog

log = structlog.get_logger(__name__)


class TurnWriter:
    """Appends the events of one turn, and reports them. A turn has exactly one, held by the engine."""

    def __init__(
        self,
        started: Started,
        event_log: EventLog,
        clock: Clock,
        metrics: TurnMetrics | None = None,
        trace: TurnTrace | None = None,
    ) -> None:
        self.turn_id = started.turn_id
        self.session_id = started.session_id
        self.builder = TurnEventBuilder(started)
        self.moderation = Moderation()
        self.held_back_ms = 0
        self._log = event_log
        self._clock = clock
        self._metrics = metrics or NoTurnMetrics()
        self._trace = trace or NoTrace()
        self._has_ended = False
        self._started_s = clock.monotonic()

    @property
    def reply(self) -> str:
        return self.builder.reply

    @property
    def usage_so_far(self) -> Usage:
        """The usage of a turn that was ended early, in words of the reply: the provider does not report it."""
        return Usage(completion_tokens=len(self.reply.split()))

    @property
    def elapsed_ms(self) -> int:
        return self._measure_ms(self._clock.monotonic())

    async def open(self) -> None:
        await self._log.create(self.turn_id)
        await self.append(self.builder.start())

    def record_start(self) -> None:
        """The turn has waited, and runs now."""
        self._metrics.record_start(self._clock.monotonic())

    async def start_stage(self, stage: Stage, detail: str) -> None:
        self._trace.start_stage(stage)
        log.debug("stage_started", turn=shorten_id(self.turn_id), stage=stage.value, elapsed_ms=self.elapsed_ms)
        await self.append(self.builder.change_stage(stage, is_complete=False, detail=detail))

    async def complete_stage(self, stage: Stage, detail: str, found: int | None = None) -> None:
        self._trace.end_stage(found)
        log.info("stage_complete", turn=shorten_id(self.turn_id), stage=stage.value, elapsed_ms=self.elapsed_ms)
        await self.append(self.builder.change_stage(stage, is_complete=True, detail=detail, found=found))

    async def write_text(self, *texts: str) -> None:
        """Pieces of the reply that are there at the same moment: an event each, appended together."""
        is_first = self.builder.first_token_ms is None
        now_s = self._clock.monotonic()
        elapsed_ms = self._measure_ms(now_s)
        if events := [event for text in texts for event in self.builder.add_text(text, elapsed_ms)]:
            await self.append(events)
            self._metrics.record_chunks(now_s, sum(bool(text) for text in texts))
        if is_first and self.builder.first_token_ms is not None:
            log.info(f"First token latency: {self.builder.first_token_ms / 1000:.3f}s", turn=shorten_id(self.turn_id))

    async def append(self, events: Sequence[TurnEvent]) -> None:
        if events:
            last = events[-1]
            if isinstance(last, Completed | Failed):
                self._report_end(last)
            await self._log.append(self.turn_id, events)

    def _report_end(self, event: Completed | Failed) -> None:
        """Once: a turn whose end could not be appended is ended again."""
        if not self._has_ended:
            self._has_ended = True
            self._metrics.record_end(event, self._clock.monotonic())
            self._trace.end(event)

    def _measure_ms(self, now_s: float) -> int:
        return round((now_s - self._started_s) * 1000)
