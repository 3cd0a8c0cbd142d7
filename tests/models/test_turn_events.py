"""The events of a turn, and the state that their log folds into."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.turn import FinishReason, Stage, TurnStatus
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Entry,
    Failed,
    StageChanged,
    Started,
    TurnEvent,
    TurnState,
    TypingStarted,
    TypingStopped,
    fold,
)
from tests.support.examples import (
    BLOCKED,
    COMPLETED,
    EVENTS,
    FAILED,
    NOON,
    STARTED,
    endings,
    middles,
    number_events,
)

RETRIEVING = StageChanged(Stage.RETRIEVAL, False, 15, "Looking")
TALKED = (STARTED, TypingStarted(), RETRIEVING, TypingStopped(3), Chunk(1, "Ro"), Chunk(2, "ar"))

logs = st.builds(
    lambda middle, ending: number_events([STARTED, *middle, *ending]),
    st.lists(middles, max_size=12),
    st.lists(endings, max_size=1),
)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), TurnState()),
        ((STARTED,), TurnState(TurnStatus.RUNNING, last_seq=1)),
        ((STARTED, RETRIEVING), TurnState(TurnStatus.RUNNING, Stage.RETRIEVAL, 15, last_seq=2)),
        (TALKED, TurnState(TurnStatus.RUNNING, Stage.RETRIEVAL, 15, "Roar", 2, 6)),
        (
            (*TALKED, COMPLETED),
            TurnState(TurnStatus.SUCCEEDED, Stage.RETRIEVAL, 100, COMPLETED.reply, 2, 7, COMPLETED),
        ),
        ((STARTED, BLOCKED), TurnState(TurnStatus.SUCCEEDED, None, 100, BLOCKED.reply, 0, 2, BLOCKED)),
        ((*TALKED, FAILED), TurnState(TurnStatus.FAILED, Stage.RETRIEVAL, 15, "Roar", 2, 7, FAILED)),
    ],
    ids=["nothing yet", "accepted", "in a stage", "talking", "completed", "blocked", "failed in the middle"],
)
def test_a_log_folds_into_the_state_of_the_turn(events: tuple[TurnEvent, ...], expected: TurnState) -> None:
    """Status, stage, progress and the text so far come from the log alone."""
    assert fold(number_events(events)) == expected


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (FinishReason.STOP, TurnStatus.SUCCEEDED),
        (FinishReason.LENGTH, TurnStatus.SUCCEEDED),
        (FinishReason.BLOCKED, TurnStatus.SUCCEEDED),
        (FinishReason.STOPPED, TurnStatus.STOPPED),
    ],
)
def test_the_finish_reason_decides_the_status(reason: FinishReason, status: TurnStatus) -> None:
    """A stopped reply is neither a success nor a failure."""
    ended = replace(COMPLETED, finish_reason=reason)

    assert fold(number_events([STARTED, ended])).status is status


@given(log=logs, data=st.data())
def test_folding_in_two_steps_equals_folding_at_once(log: list[Entry], data: st.DataObject) -> None:
    """A reader that resumes in the middle gets the same state as one that read from the start."""
    cut = data.draw(st.integers(0, len(log)))

    assert reduce(TurnState.apply, log[cut:], fold(log[:cut])) == fold(log)


@given(log=logs)
def test_the_state_has_the_last_number_and_the_text_so_far(log: list[Entry]) -> None:
    """`last_seq` is where to go on reading; until the end, the reply is all chunks joined."""
    state = fold(log)

    assert state.last_seq == len(log)
    assert state.status.is_final == log[-1].event.is_terminal
    if not isinstance(log[-1].event, Completed):
        assert state.reply == "".join(entry.event.text for entry in log if isinstance(entry.event, Chunk))


def test_two_types_of_event_are_terminal_and_no_others() -> None:
    """A turn ends with `Completed` or with `Failed`."""
    assert {type(event) for event in EVENTS if event.is_terminal} == {Completed, Failed}
    assert {type(event) for event in EVENTS} >= {Started, Completed, Failed, Chunk, StageChanged, TypingStarted}


def test_the_id_of_an_entry_is_its_turn_and_its_number() -> None:
    """Clients send the id back to resume. Cached bytes do not change the equality of entries."""
    entry, same = Entry("turn_a", 17, NOON, STARTED), Entry("turn_a", 17, NOON, STARTED)
    for contract in ("convo", "convo", "chat"):
        same.keep_encoded(contract, contract.encode())

    assert [same.get_encoded(contract) for contract in ("convo", "chat", "devices")] == [b"convo", b"chat", None]
    assert entry.id == "turn_a-17"
    assert entry == same
