"""Server-Sent Events as bytes: read whole, and cut at every place, by three parsers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Chunk, Entry
from openapi_server.wire.sse import (
    MAX_ID_BYTES,
    RETRY_MS,
    Contract,
    Frame,
    JsonObject,
    encode_comment,
    encode_json,
    encode_retry,
    parse_event_id,
)
from tests.readers.python_readers import Parsed
from tests.readers.table import PARSERS, Parser
from tests.support.examples import DELICATE_TEXTS, NOON, TURN_ID, number_events

each_parser = pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS.keys())

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
json_objects: st.SearchStrategy[JsonObject] = st.dictionaries(st.text(), json_values, max_size=5)
plain = st.text("abcXYZ019_-", min_size=1, max_size=20)


@given(value=json_values)
def test_json_is_what_the_standard_library_writes(value: object) -> None:
    """Compact and ASCII-escaped, to the byte."""
    assert encode_json(value) == json.dumps(value, ensure_ascii=True, separators=(",", ":"))


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame({"a": 1}), 'data: {"a":1}\n\n'),
        (Frame({}), "data: {}\n\n"),
        (Frame({"a": 1}, event="chunk"), 'event: chunk\ndata: {"a":1}\n\n'),
        (Frame({"a": 1}, id="t-1", event="chunk"), 'id: t-1\nevent: chunk\ndata: {"a":1}\n\n'),
        (Frame({"a": 1}, "chunk", "t-1", 2000), 'retry: 2000\nid: t-1\nevent: chunk\ndata: {"a":1}\n\n'),
        (Frame({"a": 1}, retry_ms=0), 'retry: 0\ndata: {"a":1}\n\n'),
        (Frame("Roar"), "data: Roar\n\n"),
        (Frame(" Roar "), "data:  Roar \n\n"),
        (Frame("one\ntwo\r\nthree\rfour"), "data: one\ndata: two\ndata: three\ndata: four\n\n"),
        (Frame("end\n"), "data: end\ndata: \n\n"),
        (Frame({"a": "ö\u2028\n🦁"}), 'data: {"a":"\\u00f6\\u2028\\n\\ud83e\\udd81"}\n\n'),
    ],
)
def test_a_frame_is_these_bytes(frame: Frame, text: str) -> None:
    """`id`, `event`, `data`, one space after each colon, one line of compact JSON, a blank line at the end."""
    assert frame.text == text


@pytest.mark.parametrize("field", ["id", "event"])
@pytest.mark.parametrize("value", ["", "\n", "a\nb", "a\rb", "a\r\nb", "a\0b", "\0", "turn_a-1\n", "\nevent: done"])
def test_a_name_that_could_forge_a_line_raises(field: str, value: str) -> None:
    """Never stripped: a stripped id would name another place."""
    with pytest.raises(ValueError, match=f"^{field} of a frame"):
        Frame({"a": 1}, **{field: value})  # type: ignore[arg-type]  # the field's name is the test's


@given(before=st.text(max_size=5), bad=st.sampled_from("\r\n\0"), after=st.text(max_size=5), is_id=st.booleans())
def test_a_line_end_or_nul_raises_wherever_it_stands(before: str, bad: str, after: str, is_id: bool) -> None:
    """First, last or in the middle."""
    name = before + bad + after
    with pytest.raises(ValueError, match="of a frame"):
        Frame({"a": 1}, id=name if is_id else None, event=None if is_id else name)


@pytest.mark.parametrize(("id", "fits"), [("x" * 128, True), ("x" * 129, False), ("é" * 64, True), ("é" * 65, False)])
def test_an_id_has_at_most_128_bytes(id: str, fits: bool) -> None:
    """Bytes, not characters: that is what servers in between count in `Last-Event-ID`."""
    assert MAX_ID_BYTES == 128
    if fits:
        assert Frame({}, id=id).text.startswith(f"id: {id}\n")
    else:
        with pytest.raises(ValueError, match="128 bytes"):
            Frame({}, id=id)


def test_empty_data_raises() -> None:
    """Parsers disagree about it: some drop the event, some deliver it."""
    with pytest.raises(ValueError, match="data of a frame"):
        Frame("")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_json_is_never_sent(number: float) -> None:
    """Browsers throw at `NaN`, and their users see a stream that broke."""
    with pytest.raises(ValueError, match="JSON"):
        encode_json({"size": number})


@each_parser
@given(data=json_objects, event=st.none() | plain, id=plain)
def test_any_json_survives_a_parse(parse: Parser, data: JsonObject, event: str | None, id: str) -> None:
    """Every parser gives back the event, the id and the very data."""
    raw = Frame(data, event=event, id=id).text.encode("ascii")

    (parsed,) = parse([raw])
    assert (parsed.event, parsed.id) == (event or "message", id)
    assert json.loads(parsed.data) == data


@each_parser
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives_a_parse_but_for_its_kind_of_line_ends(parse: Parser, text: str) -> None:
    """Text data goes out as it is, a line a field; CR and CRLF come back as LF, as the standard has it."""
    (parsed,) = parse([Frame(text).text.encode()])

    assert parsed.data == text.replace("\r\n", "\n").replace("\r", "\n")


@each_parser
@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=DELICATE_TEXTS.keys())
def test_delicate_text_inside_json_survives_a_parse(parse: Parser, text: str) -> None:
    """The escaping keeps line separators from looking like line ends."""
    frames = Frame({"content": text}, id="t-1").text + Frame({"content": "after"}, id="t-2").text

    assert [json.loads(event.data)["content"] for event in parse([frames.encode("ascii")])] == [text, "after"]


RECORDED = (
    encode_retry()
    + Frame({"type": "metadata", "animalName": "Löwe 🦁"}, event="metadata", id="turn_a-1").text
    + encode_comment("keep\nalive")
    + Frame("zwei\nZeilen mit ö und 🦁", id="turn_a-2").text
    + Frame({"type": "heartbeat", "stage": "queued", "elapsedMs": 15000}, event="heartbeat").text
    + Frame({"type": "chunk", "content": "\r\n\u2028\0data: forged"}, event="chunk", id="turn_a-3").text
    + Frame({"type": "complete"}, event="complete", id="turn_a-4").text
).encode()


@each_parser
def test_a_recorded_stream_is_read_as_it_was_meant(parse: Parser) -> None:
    """Five events; the heartbeat leaves the last id alone, the comment and the retry line are no events."""
    assert parse([RECORDED]) == [
        Parsed("metadata", '{"type":"metadata","animalName":"L\\u00f6we \\ud83e\\udd81"}', "turn_a-1"),
        Parsed("message", "zwei\nZeilen mit ö und 🦁", "turn_a-2"),
        Parsed("heartbeat", '{"type":"heartbeat","stage":"queued","elapsedMs":15000}', "turn_a-2"),
        Parsed("chunk", '{"type":"chunk","content":"\\r\\n\\u2028\\u0000data: forged"}', "turn_a-3"),
        Parsed("complete", '{"type":"complete"}', "turn_a-4"),
    ]


@each_parser
def test_bytes_cut_at_every_offset_parse_the_same(parse: Parser) -> None:
    """A proxy may cut anywhere: inside a field, a character, or the blank line."""
    whole = parse([RECORDED])

    assert all(parse([RECORDED[:cut], RECORDED[cut:]]) == whole for cut in range(1, len(RECORDED)))


@each_parser
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_bytes_fed_piecewise_parse_the_same(parse: Parser, size: int) -> None:
    """Also one byte at a time."""
    pieces = [RECORDED[start : start + size] for start in range(0, len(RECORDED), size)]

    assert parse(pieces) == parse([RECORDED])


def test_a_stream_starts_with_when_to_come_back() -> None:
    """The retry line belongs to the next block, so no block is empty."""
    assert RETRY_MS == 2000
    assert encode_retry() == "retry: 2000\n"
    assert (encode_retry(50) + Frame({}, id="t-1").text) == "retry: 50\nid: t-1\ndata: {}\n\n"


@each_parser
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_comment_is_never_an_event(parse: Parser, text: str) -> None:
    """Whatever stands in it, it forges nothing."""
    assert encode_comment(text).startswith(": ")
    assert parse([encode_comment(text).encode(), b"data: after\n\n"]) == [Parsed("message", "after", "")]


@pytest.mark.parametrize(
    ("event_id", "seq"),
    [
        ("turn_a-1", 1),
        ("turn_a-0", 0),
        ("turn_a-999999999", 999_999_999),
        ("turn_b-1", None),
        ("turn_a-01", None),
        ("turn_a-1000000000", None),
        ("turn_a--1", None),
        ("turn_a-+1", None),
        ("turn_a-1.0", None),
        ("turn_a-1e3", None),
        ("turn_a-0x1", None),
        ("turn_a-1\n", None),
        ("turn_a-１", None),
        ("turn_a-²", None),
        ("turn_a-", None),
        ("turn_a", None),
        (" turn_a-1", None),
        ("TURN_A-1", None),
        ("-1", None),
        ("", None),
    ],
)
def test_an_event_id_names_a_place_in_its_own_turn_only(event_id: str, seq: int | None) -> None:
    """An unknown resume point is named as such, never guessed."""
    assert parse_event_id(event_id, "turn_a") == seq


@given(turn_id=plain, seq=st.integers(1, 999_999_999))
def test_every_id_that_we_send_can_be_resumed_from(turn_id: str, seq: int) -> None:
    """Also when the turn's id contains dashes."""
    assert parse_event_id(Entry(turn_id, seq, NOON, Chunk(1, "Ro")).id, turn_id) == seq


class Counts:
    """An encoder of two frames an entry that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, entry: Entry) -> Iterator[Frame]:
        self.calls += 1
        yield Frame("first")
        yield Frame("last", id=entry.id)


def test_an_entry_is_encoded_twice_however_many_read_it() -> None:
    """A thousand readers of one turn cost two encodings of it; another contract has bytes of its own.

    The bytes are kept from the second on: for the one reader of most turns they would be kept in vain.
    """
    encode = Counts()
    contract = Contract("counted", encode, _no_heartbeat)
    other = Contract("other", lambda entry: iter([Frame("other")]), _no_heartbeat)
    entries = number_events([Chunk(1, "Ro"), Chunk(2, "ar")])

    joined = contract.encode_entries(entries)
    assert (
        contract.encode_entries(entries)
        == joined
        == contract.encode_entry(entries[0]) + contract.encode_entry(entries[1])
    )
    assert {contract.encode_entries(entries) for _ in range(1_000)} == {joined}
    assert joined.decode().split("\n\n")[:2] == ["data: first", f"id: {TURN_ID}-1\ndata: last"]
    assert encode.calls == 2 * len(entries)
    assert other.encode_entries(entries) == b"data: other\n\n" * 2
    assert contract.encode_entries([]) == b""


def _no_heartbeat(stage: Stage | None, elapsed_ms: int) -> str:
    return ""
