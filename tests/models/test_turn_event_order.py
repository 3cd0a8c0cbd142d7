"""The builder of a turn's events: their order, numbers and progress."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.errors import ChatError, IdleTimeout, ProviderFailed, TurnTimeout
from openapi_server.models.turn import FinishReason, Moderation, Stage, TurnStatus, Usage
from openapi_server.models.turn_event_order import STAGE_PROGRESS, TurnEventBuilder, TurnResult
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Failed,
    StageChanged,
    TurnEvent,
    TypingStarted,
    TypingStopped,
    fold,
)
from openapi_server.wire.convo import CONVO
from tests.support.contract import check_order, parse_events
from tests.support.examples import (
    NOTEBOOK,
    STARTED,
    number_events,
    sources,
    texts,
)


@dataclass(frozen=True)
class Say:
    text: str


@dataclass(frozen=True)
class Enter:
    stage: Stage
    is_complete: bool


calls = st.lists(
    st.builds(Say, st.sampled_from(["", " ", "\n"]) | texts) | st.builds(Enter, st.sampled_from(Stage), st.booleans()),
    max_size=20,
)
closings = st.builds(
    TurnResult,
    st.sampled_from(FinishReason),
    st.lists(sources, max_size=2).map(tuple),
    st.builds(Usage, st.integers(0, 99), st.integers(0, 99)),
    st.just(Moderation()),
)
errors = st.sampled_from([ProviderFailed(), TurnTimeout(), IdleTimeout(), ChatError()])


def build_events(script: list[Say | Enter], ending: TurnResult | ChatError) -> list[TurnEvent]:
    """All events of a turn in which each call comes 10 ms after the one before."""
    builder = TurnEventBuilder(STARTED)
    events = builder.start()
    elapsed_ms = 0
    for call in script:
        elapsed_ms += 10
        if isinstance(call, Say):
            events += builder.add_text(call.text, elapsed_ms)
        else:
            events += builder.change_stage(call.stage, is_complete=call.is_complete, detail="...")
    if isinstance(ending, TurnResult):
        return events + builder.complete(ending, elapsed_ms + 10)
    return events + builder.fail(ending, elapsed_ms + 10)


@given(script=calls, ending=closings | errors)
def test_any_sequence_of_calls_is_a_stream_that_the_contract_accepts(
    script: list[Say | Enter], ending: TurnResult | ChatError
) -> None:
    """The order follows the state machine in `openapi.yaml`, whatever was called."""
    raw = b"retry: 2000\n" + CONVO.encode_entries(number_events(build_events(script, ending)))

    check_order([event.event for event in parse_events(raw)])


@given(script=calls, ending=closings | errors)
def test_chunks_are_numbered_from_one_and_join_into_the_reply(
    script: list[Say | Enter], ending: TurnResult | ChatError
) -> None:
    """Exactly: nothing is trimmed or added, and an empty piece makes no event."""
    events = build_events(script, ending)

    chunks = [event for event in events if isinstance(event, Chunk)]
    said = "".join(call.text for call in script if isinstance(call, Say))
    assert [chunk.index for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert all(chunk.text for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == said == fold(number_events(events)).reply
    if isinstance(events[-1], Completed):
        assert (events[-1].reply, events[-1].chunk_count) == (said, len(chunks))


@given(script=calls, ending=closings | errors)
def test_exactly_one_event_is_terminal_and_it_is_the_last(
    script: list[Say | Enter], ending: TurnResult | ChatError
) -> None:
    """Readers stop at it, so they would never read an event after it."""
    assert [event.is_terminal for event in build_events(script, ending)].index(True) == len(
        build_events(script, ending)
    ) - 1


@given(script=calls, ending=closings | errors)
def test_typing_stops_once_right_before_the_first_chunk_or_the_end(
    script: list[Say | Enter], ending: TurnResult | ChatError
) -> None:
    """The typing indicator shows until the reply begins, or until the turn ends without one."""
    events = build_events(script, ending)

    assert events[:2] == [STARTED, TypingStarted()]
    assert [isinstance(event, TypingStarted) for event in events].count(True) == 1
    (stop,) = [place for place, event in enumerate(events) if isinstance(event, TypingStopped)]
    spoken = next(place for place, event in enumerate(events) if isinstance(event, Chunk) or event.is_terminal)
    assert stop == spoken - 1


@given(pieces=st.lists(texts.filter(bool), max_size=5), ending=closings | errors)
def test_progress_never_decreases(pieces: list[str], ending: TurnResult | ChatError) -> None:
    """A progress bar that goes back looks like an error."""
    script: list[Say | Enter] = [Enter(stage, is_complete) for stage in Stage for is_complete in (False, True)]
    script[-1:-1] = [Say(piece) for piece in pieces]

    progress = [event.progress for event in build_events(script, ending) if isinstance(event, StageChanged)]
    assert progress == sorted(progress)
    assert progress[-1] == 100


def test_every_stage_has_a_progress() -> None:
    """A stage without one would fail the first turn that reaches it."""
    steps = [step for stage in Stage for step in STAGE_PROGRESS[stage]]

    assert steps == sorted(set(steps))
    assert 0 <= steps[0] < steps[-1] == 100


def test_the_last_event_of_a_blocked_turn_has_the_result_of_moderation() -> None:
    """`Completed` carries everything in the `TurnResult`, and the time of the first chunk."""
    builder = TurnEventBuilder(STARTED)
    builder.start(5)
    moderation = Moderation(flagged=True, categories=("danger",))

    assert builder.add_text("Please stay ", 30) == [TypingStopped(25), Chunk(1, "Please stay ")]
    assert builder.add_text("", 35) == []
    assert builder.add_text("outside.", 40) == [Chunk(2, "outside.")]
    assert builder.complete(TurnResult(FinishReason.BLOCKED, (NOTEBOOK,), Usage(1, 2), moderation), 50) == [
        Completed(
            turn_id=STARTED.turn_id,
            session_id=STARTED.session_id,
            reply="Please stay outside.",
            chunk_count=2,
            finish_reason=FinishReason.BLOCKED,
            sources=(NOTEBOOK,),
            usage=Usage(1, 2),
            moderation=moderation,
            latency_ms=50,
            first_token_ms=30,
            model=STARTED.model,
        )
    ]


def test_a_turn_without_a_reply_has_no_time_of_the_first_token() -> None:
    """None, not zero, which would be the best time possible."""
    builder = TurnEventBuilder(STARTED)
    builder.start()

    stopped, completed = builder.complete(TurnResult(), 12)
    assert stopped == TypingStopped(12)
    assert isinstance(completed, Completed)
    assert completed.first_token_ms is None


def test_a_failed_event_does_not_quote_the_cause() -> None:
    """The cause may be a provider's error text; readers get the title and detail of our error."""
    builder = TurnEventBuilder(STARTED)
    events = builder.start()
    error = ProviderFailed()
    error.__cause__ = OSError("secret-upstream:443 refused")
    events += builder.fail(error, 3)

    assert events[-1] == Failed(ProviderFailed().problem)
    assert "secret" not in repr(events)
    assert fold(number_events(events)).status is TurnStatus.FAILED
