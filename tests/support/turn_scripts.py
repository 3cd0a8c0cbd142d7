"""Turns in every legal order of events, whole or ended early at any step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hypothesis import strategies as st

from openapi_server.models.errors import (
    ChatError,
    IdleTimeout,
    Interrupted,
    ProviderFailed,
    StoreUnavailable,
    TurnTimeout,
)
from openapi_server.models.turn import FinishReason, Moderation, Source, Stage, Usage
from openapi_server.models.turn_event_order import TurnEventBuilder, TurnResult
from openapi_server.models.turn_events import TurnEvent
from tests.support.examples import DELICATE_TEXTS, STARTED, pieces, sources

Step = Callable[[TurnEventBuilder, int], list[TurnEvent]]


@dataclass(frozen=True)
class TurnScript:
    """What happens in one turn. After `end_after` steps, if set, it is stopped, or fails with `error`."""

    pieces: tuple[str, ...] = ("Roar! ", "I am ", "a lion.")
    sources: tuple[Source, ...] = ()
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage(3, 5)
    end_after: int | None = None
    error: ChatError | None = None

    def build_events(self) -> list[TurnEvent]:
        """All events of the turn, one millisecond per step."""
        builder = TurnEventBuilder(STARTED)
        told = builder.start()
        steps = self._steps()[: self.end_after]
        for elapsed_ms, step in enumerate(steps, 1):
            told += step(builder, elapsed_ms)
        return told + self._build_end(builder, len(steps) + 1)

    def _steps(self) -> list[Step]:
        """The stages of the pipeline; a blocked turn goes through the first only."""
        text_steps = [_say(piece) for piece in self.pieces]
        if self.finish_reason is FinishReason.BLOCKED:
            return [*_stage(Stage.MODERATION), *text_steps]
        generation_starts, generation_completes = _stage(Stage.GENERATION)
        fact_steps = [*_stage(Stage.RETRIEVAL, len(self.sources)), *_stage(Stage.RERANKING, len(self.sources))]
        return [*_stage(Stage.MODERATION), *fact_steps, generation_starts, *text_steps, generation_completes]

    def _build_end(self, builder: TurnEventBuilder, elapsed_ms: int) -> list[TurnEvent]:
        if self.error is not None:
            return builder.fail(self.error, elapsed_ms)
        if self.end_after is not None:
            return builder.complete(TurnResult(FinishReason.STOPPED, usage=self.usage), elapsed_ms)
        if not builder.reply.strip():
            return builder.fail(ProviderFailed(), elapsed_ms)
        moderation = Moderation(self.finish_reason is FinishReason.BLOCKED)
        return builder.complete(TurnResult(self.finish_reason, self.sources, self.usage, moderation), elapsed_ms)


def _stage(stage: Stage, found: int | None = None) -> tuple[Step, Step]:
    begins = partial(TurnEventBuilder.change_stage, stage=stage, is_complete=False, detail="Löwe, where are you?")
    ends = partial(TurnEventBuilder.change_stage, stage=stage, is_complete=True, detail="Here.", found=found)
    return (lambda builder, elapsed_ms: begins(builder)), (lambda builder, elapsed_ms: ends(builder))


def _say(piece: str) -> Step:
    return lambda builder, elapsed_ms: builder.add_text(piece, elapsed_ms)


TURN_SCRIPTS: dict[str, TurnScript] = {
    "answered": TurnScript(),
    "cut off at its length": TurnScript(finish_reason=FinishReason.LENGTH),
    "blocked": TurnScript(("Let us talk about something else.",), finish_reason=FinishReason.BLOCKED),
    "stopped at once": TurnScript(end_after=0),
    "stopped while looking things up": TurnScript(end_after=3),
    "stopped in the middle": TurnScript(end_after=9),
    "stopped after its last word": TurnScript(end_after=11),
    "failed at once": TurnScript(end_after=0, error=StoreUnavailable()),
    "failed before the first word": TurnScript(end_after=7, error=IdleTimeout()),
    "failed in the middle": TurnScript(end_after=9, error=ProviderFailed()),
    "said nothing": TurnScript(("", " ", "\n")),
    **{text: TurnScript(("Roar! ", delicate, delicate)) for text, delicate in DELICATE_TEXTS.items()},
}

turn_scripts = st.builds(
    TurnScript,
    pieces=st.lists(pieces | st.just(""), max_size=6).map(tuple),
    sources=st.lists(sources, max_size=2).map(tuple),
    finish_reason=st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.BLOCKED]),
    usage=st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6)),
    end_after=st.none() | st.integers(0, 14),
    error=st.none() | st.sampled_from([ProviderFailed(), TurnTimeout(), IdleTimeout(), Interrupted(), ChatError()]),
)
