"""Narration: the order in which a turn's events are written, whoever writes them.

The engine narrates its turns with it, and `SSEStreamer` any other source of text. Pure: times come in as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from openapi_server.models.errors import ChatError
from openapi_server.models.turn import (
    Chunk,
    Completed,
    Failed,
    FinishReason,
    Moderation,
    Source,
    Stage,
    StageChanged,
    Started,
    TurnEvent,
    TypingStarted,
    TypingStopped,
    Usage,
)

# How far the turn is when a stage begins and when it ends, in percent of the way, not of the time.
STAGE_PROGRESS: dict[Stage, tuple[int, int]] = {
    Stage.MODERATION: (5, 10),
    Stage.RETRIEVAL: (15, 25),
    Stage.RERANKING: (35, 50),
    Stage.GENERATION: (75, 100),
}


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What is known only at the end of a turn. `model`: the one that spoke, None for the one that was announced.

    `fact_ids`: the facts that it spoke from, None for all that it was given. `held_back_ms`: the longest that a word
    of the reply waited to be checked.
    """

    finish_reason: FinishReason = FinishReason.STOP
    sources: tuple[Source, ...] = ()
    usage: Usage = Usage()
    moderation: Moderation = Moderation()
    model: str | None = None
    fact_ids: tuple[str, ...] | None = None
    held_back_ms: int = 0


class TurnEventBuilder:
    """Writes one turn's events: numbers the chunks, joins the reply, stops the typing before the first word.

    Every method returns the events to append, in order; after `complete` or `fail` there is nothing more to say.
    `elapsed_ms` is the time since the turn began.
    """

    def __init__(self, started: Started) -> None:
        self.started = started
        self._texts: list[str] = []
        self._typing_since_ms: int | None = None
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
        return [StageChanged(stage, is_complete, STAGE_PROGRESS[stage][is_complete], detail, found)]

    def add_text(self, text: str, elapsed_ms: int) -> list[TurnEvent]:
        """A piece of the reply. An empty piece says nothing and makes no event."""
        if not text:
            return []
        if self.first_token_ms is None:
            self.first_token_ms = elapsed_ms
        stopped = list(self._stop_typing(elapsed_ms))
        self._texts.append(text)
        return [*stopped, Chunk(len(self._texts), text)]

    def complete(self, result: TurnResult, elapsed_ms: int) -> list[TurnEvent]:
        stopped = list(self._stop_typing(elapsed_ms))
        completed = Completed(
            turn_id=self.started.turn_id,
            session_id=self.started.session_id,
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
        )
        return [*stopped, completed]

    def fail(self, error: ChatError, elapsed_ms: int) -> list[TurnEvent]:
        return [*self._stop_typing(elapsed_ms), Failed(error.problem)]

    def _stop_typing(self, elapsed_ms: int) -> Iterator[TurnEvent]:
        if self._typing_since_ms is not None:
            yield TypingStopped(elapsed_ms - self._typing_since_ms)
            self._typing_since_ms = None
