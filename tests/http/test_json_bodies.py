"""JSON from outside: what is refused, and what is read unchanged."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.http.json_bodies import MAX_DEPTH, parse_json
from openapi_server.models.errors import InvalidInput
from tests.support.examples import DELICATE_TEXTS

# Name, body, and the field and words of the refusal.
REFUSED: list[tuple[str, bytes, str, str]] = [
    ("nothing", b"", "body", "is not JSON"),
    ("blanks", b" \n", "body", "is not JSON"),
    ("half a text", b'{"message": "Hel', "body", "is not JSON"),
    ("two texts", b"{} {}", "body", "is not JSON"),
    ("a trailing comma", b'{"message": "Hello!",}', "body", "is not JSON"),
    ("single quotes", b"{'message': 'Hello!'}", "body", "is not JSON"),
    ("a raw line feed in a text", b'{"message": "Hel\nlo"}', "body", "is not JSON"),
    ("a raw NUL in a text", b'{"message": "Hel\0lo"}', "body", "is not JSON"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "body", "is not JSON"),
    ("invalid UTF-8", b'{"message": "\xff\xfe"}', "body", "must be UTF-8"),
    ("an overlong slash", b'{"message": "\xc0\xaf"}', "body", "must be UTF-8"),
    ("a surrogate in UTF-8", b'{"message": "\xed\xa0\x80"}', "body", "must be UTF-8"),
    ("Latin-1", '{"message": "Löwe"}'.encode("latin-1"), "body", "must be UTF-8"),
    ("UTF-16 with a mark", '{"message": "Hello!"}'.encode("utf-16"), "body", "must be UTF-8"),
    ("UTF-16 without", '{"message": "Hello!"}'.encode("utf-16-le"), "body", "is not JSON"),
    ("UTF-32", '{"message": "Hello!"}'.encode("utf-32-be"), "body", "is not JSON"),
    ("100,000 arrays", b"[" * 100_000 + b"]" * 100_000, "body", "nested deeper"),
    ("100,000 open arrays", b"[" * 100_000, "body", "nested deeper"),
    ("20,000 objects", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "body", "nested deeper"),
    ("one array too many", b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), "body", "nested deeper"),
    ("5,000 digits", b'{"metadata": {"size": ' + b"9" * 5000 + b"}}", "body", "too long"),
    ("5,000 digits below zero", b"[-" + b"9" * 5000 + b"]", "body", "too long"),
    ("NaN", b'{"metadata": {"size": NaN}}', "body", "NaN is not JSON"),
    ("Infinity", b"[Infinity]", "body", "Infinity is not JSON"),
    ("-Infinity", b"[-Infinity]", "body", "-Infinity is not JSON"),
    ("a number beyond the largest", b'{"metadata": {"size": 1e400}}', "metadata.size", "too large"),
    ("a number below the smallest", b"[-1e999]", "body[0]", "too large"),
    ("a key twice", b'{"message": "a", "message": "b"}', "message", "is there twice"),
    ("a key twice, escaped", b'{"message": "a", "\\u006dessage": "b"}', "message", "is there twice"),
    ("a key twice, deep inside", b'{"metadata": {"a": [{"b": 1, "b": 1}]}}', "b", "is there twice"),
    ("a high surrogate alone", b'{"message": "\\ud83e"}', "message", "half a surrogate pair"),
    ("a low surrogate alone", b'{"message": "\\udd81 Roar"}', "message", "half a surrogate pair"),
    ("a pair the wrong way round", b'{"message": "\\udd81\\ud83e"}', "message", "half a surrogate pair"),
    ("NUL", b'{"message": "Hel\\u0000lo"}', "message", "NUL"),
    ("NUL in a key", b'{"mess\\u0000age": 1}', "body", "NUL"),
    ("a lone surrogate in a key", b'{"metadata": {"\\ud800": 1}}', "body", "half a surrogate pair"),
    ("NUL in a list", b'{"metadata": {"tags": ["a", "\\u0000"]}}', "metadata.tags[1]", "NUL"),
]


@pytest.mark.parametrize(("body", "field", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused_is_named_and_explained(body: bytes, field: str, words: str) -> None:
    """What Python's parser would accept is a 400 that names the field and the error."""
    with pytest.raises(InvalidInput) as refusal:
        parse_json(body)

    (error,) = refusal.value.errors
    assert error.field == field
    assert words in error.message
    assert refusal.value.status == 400
    assert len(refusal.value.detail) < 200


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=DELICATE_TEXTS.keys())
@pytest.mark.parametrize("is_escaped", [True, False], ids=["escaped", "as it is"])
def test_delicate_text_comes_through_byte_for_byte(text: str, is_escaped: bool) -> None:
    """Children write with emoji, and the world writes in both directions: none of it is ours to mend."""
    body = json.dumps({"message": text, text: 1}, ensure_ascii=is_escaped).encode()

    assert parse_json(body) == {"message": text, text: 1}


ACCEPTED: list[tuple[str, bytes, object]] = [
    ("an object", b'{"message": "Hello!"}', {"message": "Hello!"}),
    ("blanks around", b' \r\n\t{"a": null} ', {"a": None}),
    ("a whole surrogate pair", b'"\\ud83e\\udd81"', "🦁"),
    ("the deepest allowed", b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH, None),
    ("the same key in two objects", b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    ("keys that only look alike", '{"é": 1, "e\u0301": 2}'.encode(), {"é": 1, "e\u0301": 2}),
    ("a number of a hundred digits", b"9" * 100, int("9" * 100)),
    ("the largest number", b"1.7976931348623157e308", 1.7976931348623157e308),
    ("a number next to nothing", b"1e-400", 0.0),
    ("an empty key", b'{"": 1}', {"": 1}),
]


@pytest.mark.parametrize(("body", "value"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_what_is_json_is_read(body: bytes, value: object) -> None:
    """Strict is not narrow: RFC 8259 in UTF-8 is accepted."""
    assert parse_json(body) == value or value is None


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**50), 10**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=values, is_escaped=st.booleans())
def test_any_value_survives_the_way_in(value: object, is_escaped: bool) -> None:
    """Whatever a client's JSON writer makes of a value, we read the same value."""
    assert parse_json(json.dumps(value, ensure_ascii=is_escaped).encode()) == value


@given(body=st.binary(max_size=60) | st.text('{}[]",:\\u0dDeE19-.nulINa ', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """No other error comes out of it."""
    with suppress(InvalidInput):
        parse_json(body)


def test_thirty_thousand_keys_with_a_twin_are_refused_at_once() -> None:
    """Looking for the twin of each key among all the others would hold the event loop for many seconds."""
    keys = [f'"{n}":1' for n in range(30_000)]

    started_s = time.process_time()
    with pytest.raises(InvalidInput, match="is there twice"):
        parse_json(f"{{{','.join(keys)},{keys[-1]}}}".encode())
    assert time.process_time() - started_s < 2


def test_a_refusal_repeats_no_control_characters_of_the_body() -> None:
    """Field names of a problem stand in logs; a key from outside is escaped and cut before it gets there."""
    key = "a\r\n\x1b[31m\u202e" + "x" * 500
    with pytest.raises(InvalidInput) as refusal:
        parse_json(json.dumps({key: "\0"}).encode())

    assert refusal.value.errors[0].field.isprintable()
    assert len(refusal.value.errors[0].field) <= 64
