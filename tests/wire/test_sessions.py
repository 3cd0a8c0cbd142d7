"""The chat sessions' contract: exact bytes for every event, and its JSON answers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from openapi_server.models.credits import TokenPrice
from openapi_server.models.page import Page
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import FinishReason, Stage, TurnRecord, Usage
from openapi_server.models.turn_events import Chunk, StageChanged, TurnEvent, TypingStarted, TypingStopped
from openapi_server.protocols import Model
from openapi_server.wire.sessions import (
    SESSIONS,
    encode_confirmation,
    encode_created_session,
    encode_model,
    encode_session,
    encode_session_details,
)
from openapi_server.wire.sse import encode_json
from tests.support.contract import assert_conforms
from tests.support.examples import (
    BLOCKED,
    COMPLETED,
    FAILED,
    NOON,
    SESSION_ID,
    STARTED,
    TURN_ID,
    make_failure,
    make_outcome,
    make_session,
    make_turn,
)
from tests.wire.literals import AT, ID, PROBLEM_BYTES, told

LATER = NOON + timedelta(seconds=2)
AT_LATER = "2026-11-21T12:00:02.123Z"

BYTES: list[tuple[TurnEvent, str, str]] = [
    (Chunk(1, "Roar! "), "chunk", '{"text":"Roar! "}'),
    (Chunk(2, "\n🦁\u2028"), "chunk", '{"text":"\\n\\ud83e\\udd81\\u2028"}'),
    (
        COMPLETED,
        "done",
        f'{{"message":"Roar! L\\u00f6we.","tokensUsed":5,"streamingSessionId":"{TURN_ID}"}}',
    ),
    (
        replace(COMPLETED, tokens_charged=8),
        "done",
        f'{{"message":"Roar! L\\u00f6we.","tokensUsed":8,"streamingSessionId":"{TURN_ID}"}}',
    ),
    (
        BLOCKED,
        "done",
        f'{{"message":"Let us talk about something else.","tokensUsed":0,"streamingSessionId":"{TURN_ID}"}}',
    ),
    (
        replace(COMPLETED, reply="", finish_reason=FinishReason.STOPPED, usage=Usage()),
        "done",
        f'{{"message":"","tokensUsed":0,"streamingSessionId":"{TURN_ID}"}}',
    ),
    (
        FAILED,
        "error",
        f'{{"error":"provider_failed","message":"The animal lost its voice.","problem":{PROBLEM_BYTES}}}',
    ),
]
SILENT: list[TurnEvent] = [
    STARTED,
    TypingStarted(),
    TypingStopped(180),
    *(StageChanged(stage, is_complete, 50, "...", 3) for stage in Stage for is_complete in (False, True)),
]


@pytest.mark.parametrize(("event", "name", "data"), BYTES, ids=[f"{type(row[0]).__name__}-{row[1]}" for row in BYTES])
def test_each_event_is_these_bytes(event: TurnEvent, name: str, data: str) -> None:
    """Clients grep the raw lines: the order of the keys and the missing blanks are part of the contract."""
    assert told(SESSIONS, event) == f"{ID}event: {name}\ndata: {data}\n\n"


@pytest.mark.parametrize("event", SILENT)
def test_what_the_contract_has_no_word_for_is_silence(event: TurnEvent) -> None:
    """Other events have no frame in this contract: ids are skipped and nothing is sent."""
    assert told(SESSIONS, event) == ""


def test_the_heartbeat_is_a_comment() -> None:
    """Clients would show any `data: ` line."""
    assert SESSIONS.heartbeat(Stage.GENERATION, 15_000) == ": heartbeat\n\n"


def test_a_model_is_offered_with_its_price() -> None:
    """The price is in credits for a token: of the reply, and of the prompt."""
    model = Model("offline-keeper-1", "Keeper", "Answers from the keepers' notes.", max_tokens=512)

    assert encode_json({"models": [encode_model(model, TokenPrice(2, 1), is_available=True)]}) == (
        '{"models":[{"id":"offline-keeper-1","name":"Keeper","description":"Answers from the keepers\' notes.",'
        '"capabilities":["streaming"],"creditCost":2,"promptCreditCost":1,"maxTokens":512,"available":true}]}'
    )
    assert_conforms({"models": [encode_model(model, TokenPrice(2, 1), is_available=True)]}, "ModelList")


def test_a_session_has_the_title_that_its_client_gave_it() -> None:
    """A session of another contract is named after its animal."""
    named = replace(make_session(), title="Löwen")

    assert encode_json(encode_created_session(named)) == (
        f'{{"sessionId":"{SESSION_ID}","title":"L\\u00f6wen","createdAt":"{AT}"}}'
    )
    assert encode_created_session(make_session())["title"] == "Talk with lion_001"
    assert_conforms(encode_created_session(named), "CreatedChatSession")


def test_a_listed_session_tells_how_many_messages_it_has() -> None:
    """As the store counts them."""
    session = replace(make_session(), title="Lions", opening="Hello!", turn_count=2, last_message_at=LATER)

    assert encode_json(encode_session(session, 5)) == (
        f'{{"sessionId":"{SESSION_ID}","title":"Lions","createdAt":"{AT}","updatedAt":"{AT_LATER}",'
        '"animalId":"lion_001","messageCount":5}'
    )
    assert_conforms(encode_session(session, 5), "ChatSession")


def messages_of(session: SessionRecord, page: Page[TurnRecord], *, is_first: bool) -> list[tuple[str, str]]:
    shown = encode_session_details(session, page, 7, is_first=is_first)
    assert_conforms(json.loads(encode_json(shown)), "ChatSessionDetails")
    messages = shown["messages"]
    assert isinstance(messages, list)
    return [(message["role"], message["content"]) for message in messages]


def test_a_sessions_messages_are_in_the_order_in_which_they_were_said() -> None:
    """First the words it was begun with, on the first page only; a turn without a reply is a message without one."""
    session = replace(make_session(), opening="I like cats.", turn_count=4)
    turns = (
        make_turn(outcome=make_outcome("Roar!")),
        make_turn(message="And?", outcome=make_failure(partial_reply="We")),
        make_turn(message="Hm?", outcome=make_failure()),
        make_turn(message="Well?"),
    )
    said = [("user", "Hello!"), ("assistant", "Roar!"), ("user", "And?"), ("assistant", "We")]
    said += [("user", "Hm?"), ("user", "Well?")]

    assert messages_of(session, Page(turns, "next"), is_first=True) == [("user", "I like cats."), *said]
    assert messages_of(session, Page(turns), is_first=False) == said


def test_each_message_of_a_turn_names_its_stream() -> None:
    """With the time at which it was said; the words that a session was begun with were no stream."""
    session = replace(make_session(), opening="I like cats.")
    page = Page((make_turn(outcome=make_outcome("Roar!", at=LATER)),), "next")

    assert encode_json(
        {key: encode_session_details(session, page, 3, is_first=True)[key] for key in ("messages", "nextCursor")}
    ) == (
        f'{{"messages":[{{"role":"user","content":"I like cats.","timestamp":"{AT}"}},'
        f'{{"role":"user","content":"Hello!","timestamp":"{AT}","streamingSessionId":"{TURN_ID}"}},'
        f'{{"role":"assistant","content":"Roar!","timestamp":"{AT_LATER}","streamingSessionId":"{TURN_ID}"}}],'
        '"nextCursor":"next"}'
    )


def test_a_confirmation_says_what_the_stream_cost() -> None:
    """The count is the server's, whatever the client sent: the tokens that were charged."""
    confirmed = encode_confirmation(make_turn(outcome=replace(make_outcome(), tokens_charged=4)))

    assert encode_json(confirmed) == (
        f'{{"message":"The stream was confirmed.","sessionId":"{SESSION_ID}","tokensUsed":4}}'
    )
    assert_conforms(confirmed, "ConfirmedStream")
