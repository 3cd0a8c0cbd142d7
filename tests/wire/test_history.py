"""A session's history: its JSON and its stream."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.page import Page
from openapi_server.models.summary import Summary
from openapi_server.models.turn import FinishReason, Outcome, TurnRecord, TurnStatus
from openapi_server.wire.history import (
    count_messages,
    encode_complete_frame,
    encode_history,
    encode_opening_frame,
    encode_session,
    encode_session_frame,
    encode_turn_frame,
)
from openapi_server.wire.sse import Frame, encode_json
from tests.support.contract import assert_conforms
from tests.support.examples import (
    DELICATE_TEXTS,
    NOON,
    SESSION_ID,
    TURN_ID,
    make_failure,
    make_outcome,
    make_session,
    make_turn,
    texts,
)

AT = "2026-11-21T12:00:00.123Z"
LATER = NOON + timedelta(seconds=2)

TURNS = {
    "running": make_turn(),
    "succeeded": make_turn(outcome=make_outcome(at=LATER)),
    "failed at once": make_turn(outcome=make_failure(at=LATER)),
    "failed in the middle": make_turn(outcome=make_failure(at=LATER, partial_reply="Ro")),
    "stopped": make_turn(outcome=replace(make_outcome("Ro", at=LATER), status=TurnStatus.STOPPED)),
    "said nothing": make_turn(outcome=make_outcome("", at=LATER)),
}
each_turn = pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())


def messages_of(turn: TurnRecord) -> list[dict[str, object]]:
    shown = encode_history(replace(make_session(), turn_count=1), Page((turn,)))
    assert_conforms(json.loads(encode_json(shown)), "ConvoHistory")
    turns = shown["turns"]
    assert isinstance(turns, list)
    return turns


def assert_is_history_event(frame: Frame) -> None:
    assert isinstance(frame.data, dict)
    assert_conforms({"event": frame.event, "data": json.loads(encode_json(frame.data))}, "HistoryStreamFrame")


def test_the_stream_is_these_bytes() -> None:
    """No ids: a history is read again, not resumed."""
    turn = make_turn(message="Löwe?", outcome=make_outcome("Roar!", at=LATER))
    frames = [encode_session_frame(make_session(), 2), encode_turn_frame(0, turn), encode_complete_frame(2)]

    assert "".join(frame.text for frame in frames) == (
        f'event: session\ndata: {{"sessionId":"{SESSION_ID}","messageCount":2}}\n\n'
        f'event: history\ndata: {{"index":0,"turnId":"{TURN_ID}","userMessage":"L\\u00f6we?","assistantReply":"Roar!",'
        f'"timestamp":"{AT}"}}\n\n'
        'event: history_complete\ndata: {"totalMessages":2}\n\n'
    )


@each_turn
def test_every_turn_conforms_to_the_schema_of_the_stream(turn: TurnRecord) -> None:
    """Where the animal has not answered, the reply is null."""
    frame = encode_turn_frame(3, turn)

    assert_is_history_event(frame)
    assert isinstance(frame.data, dict)
    assert frame.data["assistantReply"] == (turn.outcome.reply if turn.outcome else None)
    assert_is_history_event(encode_session_frame(make_session(), 0))
    assert_is_history_event(encode_complete_frame(0))


@each_turn
def test_a_turn_is_told_as_the_visitors_message_and_the_reply(turn: TurnRecord) -> None:
    """In this order, each at its own time; a reply that never came is not made up."""
    reply = turn.outcome.reply if turn.outcome else None
    told = messages_of(turn)

    expected = [("user", "Hello!", AT)]
    if reply is not None:
        expected.append(("assistant", reply, "2026-11-21T12:00:02.123Z"))
    assert [(message["role"], message["content"], message["timestamp"]) for message in told] == expected
    assert count_messages(turn) == len(expected)
    assert {message["turnId"] for message in told} == {TURN_ID}


@pytest.mark.parametrize(
    ("outcome", "metadata", "expected"),
    [
        (None, None, {"animalId": "lion_001", "status": "running"}),
        (make_outcome(), None, {"animalId": "lion_001", "status": "succeeded", "finishReason": "stop"}),
        (make_failure(), None, {"animalId": "lion_001", "status": "failed"}),
        (None, '{"kiosk":"Nörd"}', {"animalId": "lion_001", "status": "running", "client": {"kiosk": "Nörd"}}),
        (None, "{}", {"animalId": "lion_001", "status": "running", "client": {}}),
    ],
    ids=["running", "succeeded", "failed", "with the client's own", "with an empty one of the client"],
)
def test_metadata_says_how_the_turn_went_and_keeps_the_clients_apart(
    outcome: Outcome | None, metadata: str | None, expected: dict[str, object]
) -> None:
    """What the client sent stands under a key of its own, so that it can never overwrite ours."""
    assert messages_of(replace(make_turn(outcome=outcome), metadata=metadata))[0]["metadata"] == expected


@given(message=texts, reply=texts, reason=st.sampled_from(FinishReason))
def test_any_text_conforms_and_comes_back(message: str, reply: str, reason: FinishReason) -> None:
    """The history equals the stored text, to the character."""
    turn = make_turn(message=message, outcome=replace(make_outcome(reply), finish_reason=reason))

    assert [told["content"] for told in messages_of(turn)] == [message, reply]
    assert_is_history_event(encode_turn_frame(0, turn))


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=DELICATE_TEXTS.keys())
def test_delicate_text_stays_on_one_line(text: str) -> None:
    """A line separator inside a message does not end the event."""
    frame = encode_turn_frame(0, make_turn(message=text, outcome=make_outcome(text)))

    *lines, empty, end = frame.text.split("\n")
    assert (len(lines), empty, end) == (2, "", "")
    assert json.loads(lines[1].removeprefix("data: "))["userMessage"] == text


@pytest.mark.parametrize("next_cursor", [None, "WzUwXQ"])
def test_a_cursor_is_shown_only_where_there_is_more(next_cursor: str | None) -> None:
    """Clients continue as long as there is a cursor."""
    shown = encode_history(replace(make_session(), turn_count=51), Page((make_turn(),), next_cursor))

    assert_conforms(json.loads(encode_json(shown)), "ConvoHistory")
    assert shown.get("nextCursor") == next_cursor
    assert ("nextCursor" in shown) == (next_cursor is not None)
    assert shown["totalTurns"] == 51


def test_the_initial_message_comes_first_and_belongs_to_no_turn() -> None:
    """On the first page, and as the first event of the stream."""
    session = replace(make_session(), opening="I like cats.", turn_count=1)
    first = encode_history(session, Page((make_turn(),)))
    frame = encode_opening_frame(session)

    assert_conforms(json.loads(encode_json(first)), "ConvoHistory")
    assert_is_history_event(frame)
    turns = first["turns"]
    assert isinstance(turns, list)
    opening = {"role": "user", "content": "I like cats.", "timestamp": AT, "metadata": {"animalId": "lion_001"}}
    assert turns[0] == opening
    assert encode_history(session, Page((make_turn(),)), is_first=False)["turns"] == turns[1:]
    assert frame.text == (
        'event: history\ndata: {"index":0,"turnId":null,"userMessage":"I like cats.","assistantReply":null,'
        f'"timestamp":"{AT}"}}\n\n'
    )


def test_an_empty_session_has_no_messages() -> None:
    """It was begun, and nothing was said."""
    assert encode_history(make_session(), Page(()))["turns"] == []


@pytest.mark.parametrize(("seconds", "shown"), [(0, 0), (0.4, 0), (61, 61), (86_400, 86_400), (-5, 0)])
def test_a_session_tells_how_long_it_lasted(seconds: float, shown: int) -> None:
    """Never below zero, also where the clock went back."""
    session = replace(make_session(), last_message_at=NOON + timedelta(seconds=seconds))
    told = encode_session(session, "Leo", Summary("They talked about speed.", ("speed",)), 4)

    assert_conforms(json.loads(encode_json(told)), "Session")
    assert told["durationSeconds"] == shown
    assert (told["animalName"], told["messageCount"], told["startTime"]) == ("Leo", 4, AT)
    assert told["summary"] == "They talked about speed."
