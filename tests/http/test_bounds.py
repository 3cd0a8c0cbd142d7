"""Every text, list and free-form object of every request has a bound, and the bound counts what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from openapi_server.http.validation import compile_pattern
from openapi_server.spec import load_spec
from tests.support.fakes import Says

LION = "lion_001"
# Contract, path, the member with the message, the rest of the body, and the most characters without blanks around them.
MESSAGES = [
    ("/convo_turn", "message", {"animalId": LION}, 4000),
    ("/convo_turn_stream", "message", {"animalId": LION}, 4000),
    ("/api/v1/stream", "query", {}, 4000),
    ("/chat", "message", {"session_id": "session-1"}, 5000),
]


def iterate_request_schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema of each parameter and body, with its place."""
    for path, item in load_spec()["paths"].items():
        for method, operation in item.items():
            for parameter in map(resolve, operation.get("parameters", ())):
                yield f"{method} {path} {parameter['in']} {parameter['name']}", parameter["schema"]
            content = resolve(operation.get("requestBody", {})).get("content", {})
            for media_type, body in content.items():
                yield f"{method} {path} {media_type}", body["schema"]


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = load_spec()
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        part = found
    return part


def list_unbounded(schema: Mapping[str, Any], place: str) -> Iterator[str]:
    """The places of the schema's parts that have no bound."""
    schema = resolve(dict(schema))
    choices = [choice for key in ("allOf", "oneOf", "anyOf") for choice in schema.get(key, ())]
    for choice in choices:
        yield from list_unbounded(choice, place)
    match schema.get("type"):
        case "string":
            # A day has ten characters, or jsonschema refuses it.
            if not schema.keys() & {"maxLength", "enum"} and schema.get("format") != "date":
                yield place
        case "array":
            if "maxItems" not in schema:
                yield place
            yield from list_unbounded(schema["items"], f"{place}[]")
        case "object":
            others = schema.get("additionalProperties", True)
            # Where members are described, others are ignored and not kept.
            is_described = others is True and "properties" in schema
            if others is not False and not is_described and not schema.keys() & {"maxProperties", "x-max-bytes"}:
                yield place
            for name, member in schema.get("properties", {}).items():
                yield from list_unbounded(member, f"{place}.{name}")
            if isinstance(others, dict):
                yield from list_unbounded(others, f"{place}.*")
        case "integer" | "number" | "boolean":
            return
        case _ if not choices:
            yield place


def test_every_text_list_and_object_of_a_request_has_a_bound() -> None:
    """Parameters, headers and cookies as well as bodies; `x-max-bytes` bounds what has no members of its own."""
    found = [(place, schema) for place, schema in iterate_request_schemas()]

    assert len(found) > 50
    assert [where for place, schema in found for where in list_unbounded(schema, place)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "string", "pattern": "^[a-z]+$"},
        {"type": "array", "maxItems": 3, "items": {"type": "string"}},
        {"type": "array", "items": {"type": "boolean"}},
        {"type": "object"},
        {"type": "object", "additionalProperties": False, "properties": {"note": {"type": "string"}}},
        {"oneOf": [{"type": "boolean"}, {"type": "string"}]},
        {},
    ],
)
def test_a_schema_without_a_bound_is_found(schema: dict[str, Any]) -> None:
    """The test above would notice it."""
    assert len(list(list_unbounded(schema, "body"))) == 1


@pytest.mark.parametrize(("path", "member", "rest", "most"), MESSAGES)
async def test_blanks_around_a_message_are_not_counted_and_not_kept(
    open_client: Any, path: str, member: str, rest: dict[str, Any], most: int
) -> None:
    """What is stored, and what a model is asked, is the message without them."""
    asked: list[str] = []

    class Listens(Says):
        async def stream_reply(self, prompt: Any) -> Any:
            asked.append(prompt.message)
            async for piece in super().stream_reply(prompt):
                yield piece

    client: httpx.AsyncClient = await open_client(Listens())
    text = "x" * most

    fits = await client.post(path, json={**rest, member: f" \n{text}\u3000\t"})
    too_long = await client.post(path, json={**rest, member: f"{text}x"})
    all_blanks = await client.post(path, json={**rest, member: " " * 9 + "\u2003"})
    padded = await client.post(path, json={**rest, member: " " * most + "hello" + " " * most})

    assert [answer.status_code for answer in (fits, too_long, all_blanks, padded)] == [200, 400, 400, 400]
    assert asked == [text]


@pytest.mark.parametrize(
    "text", ["one\u2028two", "\u2066a\u2069b", "a\u200bb", "a\ufeffb", "x  y", "\u200bx\u200b", "\u202ex\u202c"]
)
async def test_separators_marks_and_zero_width_text_are_kept_inside(client: httpx.AsyncClient, text: str) -> None:
    """Byte for byte; only blanks around the whole are left out."""
    answer = await client.post("/convo_turn", json={"message": f" {text}\n", "animalId": LION})

    history = await client.get("/convo_history", params={"sessionId": answer.json()["sessionId"]})
    assert history.json()["turns"][0]["content"] == text


async def test_a_conversation_history_is_bounded_as_a_whole(client: httpx.AsyncClient) -> None:
    """Each of its messages may be long, but not all of them."""
    entry = {"role": "user", "content": "x" * 20_000}

    answers = [
        await client.post("/api/v1/stream", json={"query": "Hi", "conversation_history": [entry] * count})
        for count in (6, 7)
    ]

    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[1].json()["errors"][0]["field"] == "conversation_history"


@pytest.mark.parametrize("length", [1, 2, 3999, 4000, 4001])
def test_the_pattern_of_messages_says_what_is_checked(length: int) -> None:
    """It is counted, not matched: clients that match it come to the same result."""
    import re

    pattern = r"^\s*\S(?:[\s\S]{0,3998}\S)?\s*$"
    for text in ("x" * length, f"  {'x' * length}\n ", f"x{' ' * (length - 2)}x", " " * length):
        assert bool(compile_pattern(pattern)(text)) == bool(re.search(pattern, text))
