"""The order of a turn's events: started, typing, stages, chunks, and one terminal event.

Pure; times come in as numbers. The engine, `SSEStreamer`, the simulations and the mock server use the same builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from openapi_server.models.errors import ChatError
from openapi_server.models.turn import FinishReason, Moderation, Source, Stage, Usage
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Failed,
    StageChanged,
    Started,
    TurnEvent,
    TypingStarted,
    TypingStopped,
)

# Progress in percent when a stage begins and when it is completed. It counts steps, not time.
STAGE_PROGRESS: dict[Stage, tuple[int, int]] = {
    Stage.MODERATION: (5, 10),
    Stage.RETRIEVAL: (15, 25),
    Stage.RERANKING: (35, 50),
    Stage.GENERATION: (75, 100),
}


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What the pipeline knows when the reply has ended.

    `model` is None for the model in `Started`. `fact_ids` are the facts that the reply used, None for all facts of
    the prompt. `held_back_ms` is the longest time that a piece of the reply was buffered for moderation.
    `tokens_charged` is None where nobody pays.
    """

    finish_reason: FinishReason = FinishReason.STOP
    sources: tuple[Source, ...] = ()
    usage: Usage = Usage()
    moderation: Moderation = Moderation()
    model: str | None = None
    fact_ids: tuple[str, ...] | None = None
    held_back_ms: int = 0
    tokens_charged: int | None = None


class TurnEventBuilder:
    """Builds the events of one turn in their required order.

    Numbers the chunks, joins the reply and stops the typing indicator before the first chunk. Each method returns the
    events to append next. Nothing may be called after `complete` or `fail`. `elapsed_ms` is the time since the turn
    started.
    """

    def __init__(self, started: Started) -> None:
        self.started = started
        self._texts: list[str] = []
        self._typing_since_ms: int | None = None
        self.progress = 0
        self.first_token_ms: int | None = None

    @property
    def reply(self) -> str:
        return "".join(self._texts)

    def start(self, elapsed_ms: int = 0) -> list[TurnEvent]:
        self._typing_since_ms = elapsed_ms
        return [self.started, TypingStarted()]

    def change_stage(
        self, stage: Stage, *, is_complete: bool, detail: str, found: int | None = None
    ) -> list[TurnEvent]:
        self.progress = STAGE_PROGRESS[stage][is_complete]
        return [StageChanged(stage, is_complete, self.progress, detail, found)]

    def add_text(self, text: str, elapsed_ms: int) -> list[TurnEvent]:
        """A piece of the reply. An empty piece makes no event."""
        if not text:
            return []
        self._texts.append(text)
        chunk = Chunk(len(self._texts), text)
        if self.first_token_ms is not None:
            return [chunk]
        self.first_token_ms = elapsed_ms
        return [*self._stop_typing(elapsed_ms), chunk]

    def complete(self, result: TurnResult, elapsed_ms: int) -> list[TurnEvent]:
        typing_stopped = list(self._stop_typing(elapsed_ms))
        completed = Completed(
            turn_id=self.started.turn_id,
            session_id=self.started.session_name or self.started.session_id,
            reply=self.reply,
            chunk_count=len(self._texts),
            finish_reason=result.finish_reason,
            sources=result.sources,
            usage=result.usage,
            moderation=result.moderation,
            latency_ms=elapsed_ms,
            first_token_ms=self.first_token_ms,
            model=result.model or self.started.model,
            held_back_ms=result.held_back_ms,
            tokens_charged=result.tokens_charged,
        )
        return [*typing_stopped, completed]

    def fail(self, error: ChatError, elapsed_ms: int) -> list[TurnEvent]:
        return [*self._stop_typing(elapsed_ms), Failed(error.problem)]

    def _stop_typing(self, elapsed_ms: int) -> Iterator[TurnEvent]:
        if self._typing_since_ms is not None:
            yield TypingStopped(elapsed_ms - self._typing_since_ms)
            self._typing_since_ms = None
