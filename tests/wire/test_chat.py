"""The chat contract: exact bytes for every event, and its JSON answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openapi_server.models.errors import ChatError, IdleTimeout, Interrupted, ProviderFailed, TurnTimeout
from openapi_server.models.turn import FinishReason, Stage, TurnStatus
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Failed,
    StageChanged,
    TurnEvent,
    TypingStarted,
    TypingStopped,
)
from openapi_server.wire.chat import CHAT, encode_answer
from openapi_server.wire.sse import encode_json
from tests.support.contract import assert_conforms
from tests.support.examples import (
    BLOCKED,
    COMPLETED,
    FAILED,
    NOTEBOOK,
    STARTED,
    TURN_ID,
    WEB,
    make_failure,
    make_outcome,
    make_turn,
)
from tests.wire.literals import AT, ID, PROBLEM_BYTES, told

STOPPED = replace(COMPLETED, finish_reason=FinishReason.STOPPED)

BYTES: list[tuple[TurnEvent, str, str]] = [
    (
        StageChanged(Stage.RETRIEVAL, False, 15, "Looking"),
        "retrieval_start",
        '{"stage":"retrieval","status":"started"}',
    ),
    (
        StageChanged(Stage.RETRIEVAL, True, 25, "3 facts found", 3),
        "retrieval_complete",
        '{"stage":"retrieval","status":"complete","doc_count":3}',
    ),
    (
        StageChanged(Stage.RETRIEVAL, True, 25, "No facts found", 0),
        "retrieval_complete",
        '{"stage":"retrieval","status":"complete","doc_count":0}',
    ),
    (
        StageChanged(Stage.RERANKING, False, 35, "Choosing"),
        "reranking_start",
        '{"stage":"reranking","status":"started"}',
    ),
    (
        StageChanged(Stage.RERANKING, True, 50, "1 fact chosen", 1),
        "reranking_complete",
        '{"stage":"reranking","status":"complete"}',
    ),
    (Chunk(1, "Roar! "), "token", '"Roar! "'),
    (Chunk(2, "\n🦁\u2028"), "token", '"\\n\\ud83e\\udd81\\u2028"'),
    (COMPLETED, "done", "{}"),
    (BLOCKED, "done", "{}"),
    (replace(COMPLETED, finish_reason=FinishReason.LENGTH), "done", "{}"),
    (STOPPED, "cancelled", "{}"),
]
SILENT: list[TurnEvent] = [
    STARTED,
    TypingStarted(),
    TypingStopped(180),
    *(
        StageChanged(stage, is_complete, 50, "...")
        for stage in (Stage.MODERATION, Stage.GENERATION)
        for is_complete in (False, True)
    ),
]


@pytest.mark.parametrize(
    ("event", "kind", "content"), BYTES, ids=[f"{type(row[0]).__name__}-{row[1]}" for row in BYTES]
)
def test_each_event_is_these_bytes(event: TurnEvent, kind: str, content: str) -> None:
    """Clients look for `"type":"done"` in the raw line: key order and missing blanks are part of the contract."""
    assert told(CHAT, event) == f'{ID}data: {{"type":"{kind}","content":{content},"timestamp":"{AT}"}}\n\n'


def test_an_error_has_a_sentence_a_code_and_the_problem_beside_it() -> None:
    """The contract's own keys stand where its clients look for them."""
    content = '{"message":"The animal lost its voice.","code":"provider_failed"}'

    assert told(CHAT, FAILED) == (
        f'{ID}data: {{"type":"error","content":{content},"timestamp":"{AT}","problem":{PROBLEM_BYTES}}}\n\n'
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IdleTimeout(), "IDLE_TIMEOUT"),
        (TurnTimeout(), "turn_timeout"),
        (ProviderFailed(), "provider_failed"),
        (Interrupted(), "interrupted"),
        (ChatError(), "internal_error"),
    ],
)
def test_every_failure_has_its_code(error: ChatError, code: str) -> None:
    """Clients tell them apart by it; the one of silence is written as they have always read it."""
    assert f'"code":"{code}"}},"timestamp"' in told(CHAT, Failed(error.problem))


@pytest.mark.parametrize("event", SILENT)
def test_what_the_contract_has_no_word_for_is_silence(event: TurnEvent) -> None:
    """Other events have no frame in this contract: ids are skipped and nothing is sent."""
    assert told(CHAT, event) == ""


def test_the_heartbeat_is_a_comment() -> None:
    """Its clients parse every `data: ` line."""
    assert CHAT.heartbeat(Stage.GENERATION, 15_000) == ": heartbeat\n\n"
    assert CHAT.heartbeat(None, 15_000) == ": queued\n\n"


def test_a_whole_answer_is_one_object() -> None:
    """With the session as the client calls it, and how many facts the animal spoke from."""
    answer = encode_answer(make_turn(outcome=make_outcome("Löwe.", sources=(WEB, NOTEBOOK))), "my-session_1")

    assert encode_json(answer) == (
        f'{{"response":"L\\u00f6we.","session_id":"my-session_1","turn_id":"{TURN_ID}","finish_reason":"stop",'
        f'"doc_count":2,"timestamp":"{AT}"}}'
    )
    assert_conforms(answer, "TokensAnswer")


@pytest.mark.parametrize(
    "ending",
    [STOPPED, BLOCKED, replace(COMPLETED, finish_reason=FinishReason.LENGTH)],
    ids=lambda ending: str(ending.finish_reason),
)
def test_an_answer_says_why_it_ended(ending: Completed) -> None:
    """Also for stopped and blocked turns."""
    status = TurnStatus.STOPPED if ending is STOPPED else TurnStatus.SUCCEEDED
    outcome = replace(make_outcome(ending.reply), status=status, finish_reason=ending.finish_reason)
    answer = encode_answer(make_turn(outcome=outcome), "s")

    assert answer["finish_reason"] == ending.finish_reason.value
    assert_conforms(answer, "TokensAnswer")


def test_there_is_no_answer_before_the_end() -> None:
    """Whoever asks too early made a mistake; a failure without a reply still has the form of an answer."""
    with pytest.raises(ValueError, match="has not ended"):
        encode_answer(make_turn(), "s")
    assert encode_answer(make_turn(outcome=make_failure()), "s")["response"] == ""
