"""The devices' contract: exact bytes for every event, and a device's session."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from openapi_server.models.turn import FinishReason, Stage
from openapi_server.models.turn_events import Chunk, Entry, StageChanged, TurnEvent, TypingStarted, TypingStopped
from openapi_server.wire.devices import DEVICES, encode_session
from openapi_server.wire.sse import encode_json
from tests.support.contract import assert_conforms
from tests.support.examples import BLOCKED, COMPLETED, FAILED, NOON, STARTED, TURN_ID, make_session
from tests.wire.literals import AT, AT_NAIVE, ID, PROBLEM_BYTES, told

LAST = f'{{"content":"","timestamp":"{AT_NAIVE}","is_final":true}}'

BYTES: list[tuple[TurnEvent, str]] = [
    (Chunk(1, "Roar! "), f'{{"content":"Roar! ","timestamp":"{AT_NAIVE}","is_final":false}}'),
    (Chunk(2, "\n🦁\u2028"), f'{{"content":"\\n\\ud83e\\udd81\\u2028","timestamp":"{AT_NAIVE}","is_final":false}}'),
    (COMPLETED, LAST),
    (BLOCKED, LAST),
    (replace(COMPLETED, finish_reason=FinishReason.STOPPED), LAST),
    (FAILED, f'{{"content":"","timestamp":"{AT_NAIVE}","is_final":true,"error":{PROBLEM_BYTES}}}'),
]
SILENT: list[TurnEvent] = [
    STARTED,
    TypingStarted(),
    TypingStopped(180),
    *(StageChanged(stage, is_complete, 50, "...", 3) for stage in Stage for is_complete in (False, True)),
]


@pytest.mark.parametrize(
    ("event", "data"), BYTES, ids=lambda told: type(told).__name__ if isinstance(told, TurnEvent) else ""
)
def test_each_event_is_these_bytes(event: TurnEvent, data: str) -> None:
    """Nothing but `data: ` lines beside the id; the last event is empty, and says that it is the last."""
    assert told(DEVICES, event) == f"{ID}data: {data}\n\n"


@pytest.mark.parametrize("event", SILENT)
def test_what_the_contract_has_no_word_for_is_silence(event: TurnEvent) -> None:
    """Other events have no frame in this contract: ids are skipped and nothing is sent."""
    assert told(DEVICES, event) == ""


def test_the_heartbeat_is_a_comment() -> None:
    """Its clients show the content of every event."""
    assert DEVICES.heartbeat(Stage.GENERATION, 15_000) == ": heartbeat\n\n"
    assert DEVICES.heartbeat(None, 15_000) == ": queued\n\n"


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (datetime(2025, 10, 1, 14, 24, 19, 941641, tzinfo=UTC), "2025-10-01T14:24:19.941641"),
        (datetime(2025, 10, 1, 14, 24, 19, tzinfo=UTC), "2025-10-01T14:24:19.000000"),
        (datetime(2025, 10, 1, 19, 54, 19, 1, timezone(timedelta(hours=5, minutes=30))), "2025-10-01T14:24:19.000001"),
    ],
)
def test_times_are_utc_to_the_microsecond_and_do_not_say_so(at: datetime, shown: str) -> None:
    """As these clients have always been sent them; never shorter, whatever the moment."""
    raw = DEVICES.encode_entry(Entry(TURN_ID, 7, at, Chunk(1, "Roar!"))).decode()

    assert f'"timestamp":"{shown}","is_final":false' in raw


def test_a_devices_session_is_these_bytes() -> None:
    """The device by its name in our books, the animal, and since when it is that one."""
    session = replace(make_session(animal_id="tiger_001"), handle="chat_kiosk-7", turn_count=4, ttl_s=3600)
    session = replace(session, locked_at=NOON + timedelta(seconds=1), last_message_at=NOON + timedelta(seconds=2))

    assert encode_json(encode_session(session)) == (
        '{"device":"chat_kiosk-7","active_animal":"tiger_001","locked_at":"2026-11-21T12:00:01.123Z",'
        '"session_ttl":3600,"last_message_at":"2026-11-21T12:00:02.123Z","message_count":4}'
    )
    assert_conforms(encode_session(session), "DeviceSession")


def test_a_session_that_never_changed_its_animal_has_had_it_from_the_beginning() -> None:
    """Sessions stored by an older version have no time of the change."""
    assert encode_session(make_session())["locked_at"] == AT
