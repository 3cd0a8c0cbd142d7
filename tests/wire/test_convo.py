"""The zoo's own contract: exact bytes for every event, held against `openapi.yaml`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given

from openapi_server.devtools.check.stream_rules import Violation
from openapi_server.models.errors import (
    ChatError,
    IdleTimeout,
    Interrupted,
    ProviderFailed,
    SessionDeleted,
    StoreUnavailable,
    TurnTimeout,
)
from openapi_server.models.turn import FinishReason, Stage
from openapi_server.models.turn_events import (
    Chunk,
    Entry,
    Failed,
    StageChanged,
    TurnEvent,
    TypingStarted,
    TypingStopped,
)
from openapi_server.wire.convo import CONVO, encode
from tests.readers.table import PARSERS, Parser
from tests.support.contract import assert_conforms, check_order, parse_events
from tests.support.examples import (
    BLOCKED,
    COMPLETED,
    DISCLOSURE,
    EVENTS,
    FAILED,
    NOON,
    SESSION_ID,
    STARTED,
    TURN_ID,
    endings,
    middles,
    number_events,
)

AT = "2026-11-21T12:00:00.123Z"


def encode_event(event: TurnEvent, seq: int = 7) -> bytes:
    return CONVO.encode_entry(Entry(TURN_ID, seq, NOON, event))


def encode_item(event: TurnEvent) -> dict[str, object]:
    """The event as `x-itemSchema` describes it."""
    (found,) = parse_events(b"retry: 2000\n" + encode_event(event))
    return {"id": found.id, "event": found.event, "data": found.data}


BYTES: list[tuple[TurnEvent, str, str]] = [
    (
        STARTED,
        "metadata",
        f'{{"type":"metadata","turnId":"{TURN_ID}","sessionId":"{SESSION_ID}","animalId":"lion_001","animalName":"Leo",'
        f'"model":"fake-1","ageGroup":"elementary","disclosure":"{DISCLOSURE}","timestamp":"{AT}"}}',
    ),
    (TypingStarted(), "typing", f'{{"type":"typing","status":"start","timestamp":"{AT}"}}'),
    (TypingStopped(180), "typing", f'{{"type":"typing","status":"stop","durationMs":180,"timestamp":"{AT}"}}'),
    (
        StageChanged(Stage.RETRIEVAL, False, 15, "Looking"),
        "progress",
        f'{{"type":"progress","stage":"retrieval","status":"started","progress":15,"detail":"Looking","timestamp":"{AT}"}}',
    ),
    (
        StageChanged(Stage.GENERATION, True, 100, "Löwe"),
        "progress",
        '{"type":"progress","stage":"generation","status":"complete","progress":100,'
        f'"detail":"L\\u00f6we","timestamp":"{AT}"}}',
    ),
    (Chunk(1, "Roar! "), "chunk", '{"type":"chunk","chunkId":1,"content":"Roar! "}'),
    (Chunk(2, "\n🦁\u2028"), "chunk", '{"type":"chunk","chunkId":2,"content":"\\n\\ud83e\\udd81\\u2028"}'),
    (
        COMPLETED,
        "complete",
        f'{{"type":"complete","turnId":"{TURN_ID}","sessionId":"{SESSION_ID}","fullResponse":"Roar! L\\u00f6we.",'
        '"chunkCount":2,"finishReason":"stop","sources":['
        '{"factId":"lion_001/top_speed","topic":"speed","type":"web","title":"Panthera leo",'
        '"url":"https://zoo.example/lion?a=1&b=2"},'
        '{"factId":"lion_001/mane","topic":"body","type":"document","title":"Keepers\' notebook"}],'
        f'"usage":{{"promptTokens":3,"completionTokens":5}},"latencyMs":1730,"firstTokenMs":210,"heldBackMs":0,"model":"","timestamp":"{AT}"}}',
    ),
    (
        BLOCKED,
        "complete",
        f'{{"type":"complete","turnId":"{TURN_ID}","sessionId":"{SESSION_ID}",'
        '"fullResponse":"Let us talk about something else.","chunkCount":1,"finishReason":"blocked","sources":[],'
        f'"usage":{{"promptTokens":0,"completionTokens":0}},"latencyMs":4,"firstTokenMs":null,"heldBackMs":0,"model":"","timestamp":"{AT}"}}',
    ),
    (
        FAILED,
        "error",
        '{"type":"error","error":{"type":"/problems/provider_failed","title":"The animal lost its voice",'
        '"status":502,"detail":"The animal lost its voice.","code":"provider_failed",'
        '"errors":[{"field":"metadata.size","message":"must be a number"}],'
        f'"turnId":"{TURN_ID}","retryable":true}},"timestamp":"{AT}"}}',
    ),
]


@pytest.mark.parametrize(("event", "name", "data"), BYTES, ids=[f"{type(row[0]).__name__}-{row[1]}" for row in BYTES])
def test_each_event_is_these_bytes(event: TurnEvent, name: str, data: str) -> None:
    """Clients grep the raw lines: the order of the keys and the missing blanks are part of the contract."""
    assert encode_event(event).decode() == f"id: {TURN_ID}-7\nevent: {name}\ndata: {data}\n\n"


def test_the_table_above_leaves_no_type_out() -> None:
    """A new event needs a row with its exact bytes."""
    written_down = {type(event).__name__ for event, _, _ in BYTES}

    # By name: a dataclass with slots leaves its slotless twin among the subclasses.
    assert written_down == {
        kind.__name__ for kind in TurnEvent.__subclasses__() if kind.__module__ == TurnEvent.__module__
    }
    assert written_down == {type(event).__name__ for event in EVENTS}


@given(event=middles | endings)
def test_whatever_a_turn_tells_conforms_to_the_schema(event: TurnEvent) -> None:
    """`components.x-frames.ConvoFrame` describes every event, and exactly one of its kinds does."""
    assert_conforms(encode_item(event), "ConvoFrame")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_examples_conform_to_the_schema(event: TurnEvent) -> None:
    """The first event and both endings too."""
    assert_conforms(encode_item(event), "ConvoFrame")


@given(event=middles | endings)
def test_encoding_is_pure(event: TurnEvent) -> None:
    """A resumed stream repeats the same bytes, in this process or the next."""
    entry, again = Entry(TURN_ID, 7, NOON, event), Entry(TURN_ID, 7, NOON, event)

    assert list(encode(entry)) == list(encode(entry)) == list(encode(again))
    assert CONVO.encode_entry(entry) == CONVO.encode_entry(again) == CONVO.encode_entries([entry])


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS.keys())
@given(event=middles | endings)
def test_every_parser_reads_the_same_event(parse: Parser, event: TurnEvent) -> None:
    """The type stands in the event's name and in its data, and they agree."""
    (parsed,) = parse([encode_event(event)])

    item = encode_item(event)
    assert (parsed.id, parsed.event, json.loads(parsed.data)) == (item["id"], item["event"], item["data"])
    assert json.loads(parsed.data)["type"] == parsed.event


def test_every_frame_has_its_entrys_id() -> None:
    """One frame an entry, numbered from 1 without a gap: any of them is a place to resume from."""
    frames = [frame for entry in number_events(EVENTS) for frame in encode(entry)]

    assert [frame.id for frame in frames] == [f"{TURN_ID}-{seq}" for seq in range(1, len(EVENTS) + 1)]


@pytest.mark.parametrize(
    ("stage", "elapsed_ms", "data"),
    [
        (None, 0, '{"type":"heartbeat","stage":"queued","elapsedMs":0}'),
        (Stage.GENERATION, 15_000, '{"type":"heartbeat","stage":"generation","elapsedMs":15000}'),
    ],
)
def test_a_heartbeat_says_where_the_turn_is_and_has_no_id(stage: Stage | None, elapsed_ms: int, data: str) -> None:
    """An id would change the position from which a client resumes."""
    text = CONVO.heartbeat(stage, elapsed_ms)

    assert text == f"event: heartbeat\ndata: {data}\n\n"
    assert_conforms({"event": "heartbeat", "data": json.loads(data)}, "ConvoFrame")


@pytest.mark.parametrize("stage", [None, *Stage])
def test_heartbeats_fit_anywhere_between_the_first_and_the_last_event(stage: Stage | None) -> None:
    """And nowhere else: a stream opens with metadata and ends with its terminal event."""
    beat = CONVO.heartbeat(stage, 1).encode()
    raw = b"retry: 2000\n" + beat.join(
        CONVO.encode_entry(entry) for entry in number_events([STARTED, Chunk(1, "Ro"), COMPLETED])
    )

    check_order([event.event for event in parse_events(raw)])
    with pytest.raises(Violation):
        check_order(["heartbeat", "metadata", "complete"])


@pytest.mark.parametrize("reason", FinishReason)
def test_every_way_to_finish_has_its_word(reason: FinishReason) -> None:
    """The schema lists every finish reason."""
    item = encode_item(replace(COMPLETED, finish_reason=reason))

    assert_conforms(item, "CompleteFrame")
    assert isinstance(item["data"], dict)
    assert item["data"]["finishReason"] == reason.value


@pytest.mark.parametrize(
    "error",
    [ChatError(), IdleTimeout(), Interrupted(), ProviderFailed(), SessionDeleted(), StoreUnavailable(), TurnTimeout()],
    ids=lambda error: type(error).__name__,
)
def test_an_error_event_carries_the_problem_and_whether_to_try_again(error: ChatError) -> None:
    """The same object as an error before the first byte, and `retryable` beside it."""
    item = encode_item(Failed(error.problem))

    assert_conforms(item, "ErrorFrame")
    assert isinstance(item["data"], dict)
    told = item["data"]["error"]
    assert (told["code"], told["status"], told["retryable"]) == (error.code, error.status, error.retryable)


@dataclass(frozen=True, slots=True)
class Yawned(TurnEvent):
    """An event that this contract has no word for."""


def test_an_unknown_event_raises() -> None:
    """Whoever adds one decides what this contract makes of it; silence would lose an id."""
    with pytest.raises(TypeError, match="Yawned"):
        encode_event(Yawned())


def test_a_reply_of_one_chunk_equals_the_full_response() -> None:
    """No layer trims, joins or escapes twice."""
    text = "  Roar!\t\n “Löwe” \\n  "
    chunk, complete = encode_item(Chunk(1, text)), encode_item(replace(COMPLETED, reply=text))

    assert isinstance(chunk["data"], dict)
    assert isinstance(complete["data"], dict)
    assert chunk["data"]["content"] == complete["data"]["fullResponse"] == text
