"""The turn: folding its log into the picture that polling shows."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.turn import AgeGroup, FinishReason, Stage, TurnStatus, Usage
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
from tests.support.examples import BLOCKED, COMPLETED, EVENTS, FAILED, NOON, STARTED, endings, middles, number_events

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
def test_a_log_folds_into_what_polling_shows(events: tuple[TurnEvent, ...], expected: TurnState) -> None:
    """Status, stage, progress and the text so far all come from the log, and from nothing else."""
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
def test_why_a_reply_ended_decides_the_status(reason: FinishReason, status: TurnStatus) -> None:
    """A reply that somebody stopped is neither a success nor a failure."""
    ended = replace(COMPLETED, finish_reason=reason)

    assert fold(number_events([STARTED, ended])).status is status


@given(log=logs, data=st.data())
def test_folding_in_two_steps_equals_folding_at_once(log: list[Entry], data: st.DataObject) -> None:
    """A reader that resumes in the middle gets the same picture as one that read from the start."""
    cut = data.draw(st.integers(0, len(log)))

    assert reduce(TurnState.apply, log[cut:], fold(log[:cut])) == fold(log)


@given(log=logs)
def test_a_fold_remembers_the_last_entry_and_all_the_text(log: list[Entry]) -> None:
    """`last_seq` is where to go on reading; until the end, the reply is every chunk joined."""
    state = fold(log)

    assert state.last_seq == len(log)
    assert state.status.is_final == log[-1].event.is_terminal
    if not isinstance(log[-1].event, Completed):
        assert state.reply == "".join(entry.event.text for entry in log if isinstance(entry.event, Chunk))


def test_two_types_of_event_are_terminal_and_no_others() -> None:
    """A turn ends completed or failed; there is no third way."""
    assert {type(event) for event in EVENTS if event.is_terminal} == {Completed, Failed}
    assert {type(event) for event in EVENTS} >= {Started, Completed, Failed, Chunk, StageChanged, TypingStarted}


def test_an_entry_is_known_by_its_turn_and_its_place() -> None:
    """The id is what a client sends back to resume; bytes kept with an entry do not make it another one."""
    entry, same = Entry("turn_a", 17, NOON, STARTED), Entry("turn_a", 17, NOON, STARTED)
    same.encoded["convo"] = b"..."

    assert entry.id == "turn_a-17"
    assert entry == same


@pytest.mark.parametrize("status", TurnStatus)
def test_only_a_queued_or_running_turn_can_still_change(status: TurnStatus) -> None:
    """Whoever polls may stop polling once the status is final."""
    assert status.is_final == (status not in {"queued", "running"})


def test_age_groups_are_ranked_from_the_youngest() -> None:
    """Facts and rules for a band suit every older one."""
    assert [group.rank for group in AgeGroup] == [0, 1, 2, 3, 4]
    assert AgeGroup.PRESCHOOL.rank < AgeGroup.ELEMENTARY.rank < AgeGroup.ADULT.rank


def test_usage_adds_up() -> None:
    """The total is what is charged."""
    assert Usage(3, 5).total == 8
