"""Every stream that the suite sees is held against the contract: the byte rules, `x-event-order` and `x-itemSchema`."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from openapi_schema_validator import OAS30ReadValidator, oas30_format_checker

from openapi_server.spec import load_spec

FIELD_ORDER = ("retry", "id", "event", "data")

# How many streams of each operation were checked, for the report at the end of the suite.
CHECKED: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Event:
    """One event as a client gets it, its data decoded."""

    event: str
    data: dict[str, Any]
    id: str | None = None

    @property
    def seq(self) -> int:
        assert self.id is not None
        return int(self.id.rpartition("-")[2])


def events_of(raw: bytes, *, is_whole: bool = True) -> list[Event]:
    """The events of a recorded stream, after the byte rules of the contract were asserted of it."""
    text = raw.decode("ascii")
    assert text.startswith("retry: 2000\n"), "the first line of a stream is its retry line"
    assert "\r" not in text
    assert not is_whole or text.endswith("\n\n"), "a blank line after every event, the last one included"
    blocks = text.split("\n\n")[:-1]
    return [event for block in blocks if (event := _event(block.split("\n"))) is not None]


def _event(lines: list[str]) -> Event | None:
    fields = [line.split(": ", 1) for line in lines if not line.startswith(":")]
    if not fields:
        return None
    names = [name for name, _ in fields]
    assert names == sorted(names, key=FIELD_ORDER.index), f"field order: {names}"
    values = dict(fields)
    assert len(values) == len(fields), f"a field twice: {names}"
    assert values["data"]
    assert values["data"] == values["data"].strip()
    data = json.loads(values["data"])
    assert values["data"] == json.dumps(data, separators=(",", ":")), "compact, ASCII-escaped JSON"
    return Event(values.get("event", "message"), data, values.get("id"))


def check_stream(
    path: str, raw: bytes, *, method: str = "post", is_whole: bool = True, is_resumed: bool = False
) -> list[Event]:
    """The events of a stream that `method path` answered with, after all of the contract was asserted of it."""
    media = load_spec()["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]
    events = events_of(raw, is_whole=is_whole)
    validator = _validator(media["x-itemSchema"]["$ref"])
    for event in events:
        validator.validate(_as_item(event))
    start = "resume" if is_resumed else "start"
    _check_order([event.event for event in events], media["x-event-order"], start=start, is_whole=is_whole)
    _check_ids(events)
    CHECKED[f"{method.upper()} {path}"] += 1
    return events


def check_order(names: list[str], path: str = "/convo_turn_stream", *, is_whole: bool = True) -> None:
    """Hold a list of event names against the state machine of an operation."""
    media = load_spec()["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    _check_order(names, media["x-event-order"], start="start", is_whole=is_whole)


def _check_order(names: list[str], machine: dict[str, Any], *, start: str, is_whole: bool) -> None:
    state = machine[start]
    for place, name in enumerate(names):
        moves = machine["states"].get(state, {})
        assert name in moves, f"{name} as event {place + 1} in state {state}: {names}"
        state = moves[name]
    assert not is_whole or state == machine["end"], f"the stream ended in state {state}: {names}"


def _check_ids(events: list[Event]) -> None:
    """Numbered without a gap, wherever the stream began; heartbeats and histories have no ids."""
    seqs = [event.seq for event in events if event.id is not None]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", event.id) for event in events if event.id)


def _as_item(event: Event) -> dict[str, Any]:
    item: dict[str, Any] = {"event": event.event, "data": event.data}
    return item | ({"id": event.id} if event.id else {})


@cache
def _validator(pointer: str) -> OAS30ReadValidator:
    schema = {"allOf": [{"$ref": pointer}], "components": load_spec()["components"]}
    return OAS30ReadValidator(schema, format_checker=oas30_format_checker)
