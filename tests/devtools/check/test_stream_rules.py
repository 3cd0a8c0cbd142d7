"""The rules for every stream: each kind of violation is found, and described in one line."""

from __future__ import annotations

from typing import Any

import pytest

from openapi_server.devtools.check.runner import PROBES
from openapi_server.devtools.check.stream_rules import (
    SseEvent,
    StreamRules,
    Violation,
    check_bytes,
    check_ids,
    check_progress,
    parse_events,
)
from openapi_server.spec import load_spec

GOOD = b'retry: 2000\nid: turn_a-1\nevent: chunk\ndata: {"text":"Roar"}\n\n: still here\n\n'
ORDER = {
    "by": "/data/is_final",
    "text": {"false": "/data/content"},
    "start": "talking",
    "resume": "talking",
    "end": "closed",
    "states": {"talking": {"false": "talking", "true": "closed"}},
}
ITEM = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"data": {"type": "object", "required": ["content"]}},
}
RULES = StreamRules({"x-event-order": ORDER, "x-itemSchema": ITEM}, {})


def make_event(text: str, *, is_final: bool = False, id: str | None = None) -> SseEvent:
    return SseEvent("message", {"content": text, "is_final": is_final}, id)


def test_a_good_stream_passes_the_byte_rules() -> None:
    """The evidence says how much was seen."""
    assert check_bytes(GOOD) == f"{len(GOOD)} bytes in 2 blocks"


@pytest.mark.parametrize(
    ("raw", "evidence"),
    [
        (GOOD.replace(b"Roar", "Löwe".encode()), "not ASCII"),
        (GOOD.replace(b"\n", b"\r\n"), "carriage return"),
        (GOOD.removeprefix(b"retry: 2000\n"), "not the retry line"),
        (GOOD.removesuffix(b"\n"), "no blank line after the last event"),
        (GOOD.replace(b"data: ", b"data:"), "one space after its colon"),
        (GOOD.replace(b"data: ", b"data:  "), "not compact"),
        (GOOD.replace(b'":"', b'": "'), "not compact"),
        (GOOD.replace(b"event: chunk\n", b"").replace(b"id:", b"event: chunk\nid:"), "field order"),
        (GOOD.replace(b"id: turn_a-1\n", b"id: turn_a-1\nid: turn_a-1\n"), "a repeated field"),
        (GOOD + b"id: turn_a-2\n\n", "a block without data"),
        (GOOD + b"event: chunk\ndata: \n\n", "a block without data"),
        (GOOD + b"comment\n\n", "a line that is not a field"),
    ],
)
def test_each_violation_of_the_byte_rules_is_named(raw: bytes, evidence: str) -> None:
    """The evidence is the first violation in the stream."""
    with pytest.raises(Violation, match=evidence):
        check_bytes(raw)


BARE = b': still here\n\ndata: {"text":"Roar"}\n\n'


def test_a_bare_stream_has_only_data_and_comments() -> None:
    """Its readers take only blocks that begin with `data: `."""
    assert check_bytes(BARE, is_bare=True) == f"{len(BARE)} bytes in 2 blocks"


@pytest.mark.parametrize("line", [b"retry: 2000\n", b"id: turn_a-1\n", b"event: chunk\n"])
@pytest.mark.parametrize("is_before", [True, False])
def test_each_other_line_in_a_bare_stream_is_named(line: bytes, is_before: bool) -> None:
    """Before the data its reader loses the event; after it, some readers take the line for a part of the JSON."""
    data = b'data: {"text":"Roar"}\n'
    with pytest.raises(Violation):
        check_bytes((line + data if is_before else data + line) + b"\n", is_bare=True)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_events_are_parsed_as_the_standard_says(line_end: bytes) -> None:
    """A stream that breaks one rule is still read, so that the other checks can judge the rest."""
    raw = b'retry:1\n:c\n\ndata:{"b":1}\nevent:x\nid:turn_a-1\n\n'.replace(b"\n", line_end)

    assert parse_events(raw) == [SseEvent("x", {"b": 1}, "turn_a-1")]


def test_an_event_that_was_cut_off_is_no_event_and_costs_no_time() -> None:
    """A server may send megabytes without a blank line: searching from each byte would take hours."""
    assert parse_events(GOOD + b"data: " + b"x" * 5_000_000) == parse_events(GOOD)


def test_data_that_is_not_an_object_is_a_violation() -> None:
    """Every contract's data is a JSON object."""
    with pytest.raises(Violation, match="not a JSON object"):
        parse_events(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("ids", "is_gapless", "evidence"),
    [
        (["turn_a-1", "turn_a-1"], False, "do not rise"),
        (["turn_a-2", "turn_a-1"], False, "do not rise"),
        (["turn_a-1", "turn_a-3"], True, "a gap"),
        (["turn_a-1", "turn_b-2"], False, "several turns"),
        (["turn_x-1"], False, "several turns"),
        (["17"], False, "is not <turnId>-<seq>"),
        (["turn_a-0"], False, "is not <turnId>-<seq>"),
    ],
)
def test_each_violation_of_the_id_rules_is_named(ids: list[str], is_gapless: bool, evidence: str) -> None:
    """`<turnId>-<seq>`, strictly rising, of the turn that the header names."""
    with pytest.raises(Violation, match=evidence):
        check_ids([make_event("", id=id) for id in ids], "turn_a", is_gapless=is_gapless)


def test_gaps_are_violations_only_in_gapless_contracts() -> None:
    """A contract that has no event for an entry of the log leaves a gap."""
    assert (
        check_ids([make_event("", id="turn_a-3"), make_event(""), make_event("", id="turn_a-9")], "turn_a")
        == "2 ids, 3 to 9"
    )


@pytest.mark.parametrize(
    ("finals", "evidence"),
    [
        ([], "ended in state talking"),
        ([False, False], "ended in state talking"),
        ([False, True, True], "true as event 3 of 3, in state closed"),
        ([True, False], "false as event 2 of 2, in state closed"),
    ],
)
def test_each_violation_of_the_order_is_named(finals: list[bool], evidence: str) -> None:
    """The pointer `by` finds an event's name; JSON booleans are names, too."""
    with pytest.raises(Violation, match=evidence):
        RULES.check_order([make_event("", is_final=is_final) for is_final in finals])


def test_the_text_is_joined_from_where_the_spec_points() -> None:
    """The terminal event is the one that leads to the end state."""
    events = [make_event("Ro"), make_event("ar"), make_event("", is_final=True)]

    assert RULES.join_text(events) == "Roar"
    assert RULES.check_order(events) == "false x2 true"
    assert [RULES.is_terminal(event) for event in events] == [False, False, True]


def test_an_event_without_the_value_of_a_pointer_is_a_violation() -> None:
    """The checker does not crash."""
    with pytest.raises(Violation, match="nothing at /data/is_final"):
        RULES.get_name(SseEvent("message", {"content": ""}))


def test_an_event_of_another_shape_is_quoted() -> None:
    """As it was on the wire."""
    (event,) = parse_events(b'data: {"text":"Roar"}\n\n')

    with pytest.raises(Violation, match="Roar"):
        RULES.check_events([event])


@pytest.mark.parametrize("values", [[10, 25, 25, 100], []])
def test_progress_may_stay_the_same(values: list[int]) -> None:
    """But it must not fall."""
    check_progress([SseEvent("progress", {"progress": progress}) for progress in values])
    with pytest.raises(Violation, match="falls"):
        check_progress([SseEvent("progress", {"progress": progress}) for progress in [*values, 5, 4]])


@pytest.mark.parametrize("probes", PROBES.values(), ids=PROBES)
def test_the_spec_has_the_rules_of_all_five_streams(probes: Any) -> None:
    """Each names its events, their text, and how a stream starts, goes on and ends."""
    order = StreamRules.from_spec(load_spec(), probes.operation).order

    assert set(order) == {"by", "text", "start", "resume", "end", "states"}
    assert set(order["text"]) <= {name for moves in order["states"].values() for name in moves}
