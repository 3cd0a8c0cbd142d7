"""Log entries as bytes: every event comes back as it was, and processes of two versions read each other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from openapi_server.event_logs.redis.entry_format import FORMAT, UnreadableEntry, decode_entry, encode_entry
from openapi_server.models.turn_events import TurnEvent
from tests.support.examples import COMPLETED, EVENTS, NOON, STARTED, TURN_ID, endings, middles


@pytest.mark.parametrize("event", EVENTS, ids=[type(event).__name__ for event in EVENTS])
def test_an_entry_is_one_line_and_comes_back(event: TurnEvent) -> None:
    """With its time, to the microsecond."""
    at = NOON.replace(microsecond=123_457)
    data = encode_entry(at, event)
    assert b"\n" not in data
    entry = decode_entry(TURN_ID, 7, data)
    assert (entry.event, entry.at, entry.id) == (event, at, f"{TURN_ID}-7")


@given(middles | endings)
def test_any_text_comes_back(event: TurnEvent) -> None:
    assert decode_entry(TURN_ID, 1, encode_entry(NOON, event)).event == event


def test_a_newer_version_may_add_fields() -> None:
    """A process that does not know them reads the rest."""
    head, name, at, body = encode_entry(NOON, STARTED).split(b" ", 3)
    more = json.dumps({**json.loads(body), "mood": "curious", "weather": {"degrees": 3}}).encode()
    assert decode_entry(TURN_ID, 1, b" ".join((head, name, at, more))).event == STARTED


def test_an_older_version_may_lack_fields_that_have_defaults() -> None:
    head, name, at, body = encode_entry(NOON, COMPLETED).split(b" ", 3)
    fields = json.loads(body)
    less = {key: value for key, value in fields.items() if key not in ("model", "held_back_ms", "tokens_charged")}
    assert decode_entry(TURN_ID, 1, b" ".join((head, name, at, json.dumps(less).encode()))).event == COMPLETED


@pytest.mark.parametrize(
    "data",
    [
        encode_entry(NOON, STARTED, FORMAT + 1),
        encode_entry(NOON, STARTED).replace(b"Started", b"Sang"),
        encode_entry(NOON, STARTED).replace(b'"animal_id"', b'"beast"'),
        b"1 Chunk yesterday {}",
        b"Roar",
        b"",
    ],
    ids=["newer format", "unknown event", "missing field", "no time", "text", "nothing"],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableEntry):
        decode_entry(TURN_ID, 1, data)
