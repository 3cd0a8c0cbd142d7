"""What is ignored in a body: members that no visitor's API knows, and `null` for an optional member.

Nothing here names a member of a real schema: a new request schema is tested as soon as the spec has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from openapi_server.http.validation import RequestSchemaValidator, drop_ignored_members
from openapi_server.spec import load_spec

KEEPERS = "keepers"
# What front ends are known to send besides what an API knows, and values of every type.
UNKNOWN: dict[str, Any] = {
    "userId": "mia",
    "user_id": None,
    "source": {"page": ["/", None]},
    "timestamp": 1_764_400_000.5,
    "stream_": True,
    "__proto__": [],
    "": 0,
}

Schema = Mapping[str, Any]


def resolve(part: Any) -> Any:
    """The part without references, as Connexion gives it to the validators."""
    if isinstance(part, list):
        return [resolve(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        found: Any = load_spec()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolve(found)
    return {name: resolve(value) for name, value in part.items()}


def list_request_schemas(*, of_keepers: bool) -> dict[str, Schema]:
    found = {}
    for path, item in load_spec()["paths"].items():
        for method, operation in item.items():
            if "requestBody" in operation and (KEEPERS in operation["tags"]) is of_keepers:
                found[f"{method} {path}"] = resolve(operation["requestBody"])["content"]["application/json"]["schema"]
    return found


LENIENT, STRICT = list_request_schemas(of_keepers=False), list_request_schemas(of_keepers=True)
each_lenient = pytest.mark.parametrize("schema", LENIENT.values(), ids=LENIENT)
each_strict = pytest.mark.parametrize("schema", STRICT.values(), ids=STRICT)


def unwrap(schema: Schema) -> Schema:
    return unwrap(schema["allOf"][0]) if len(schema.get("allOf", ())) == 1 else schema


def iterate_objects(schema: Schema) -> Iterator[Schema]:
    """The schema and all in it that describe an object with members."""
    schema = unwrap(schema)
    if "properties" in schema:
        yield schema
    for part in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from iterate_objects(part)


def make_value(schema: Schema, *, has_more: bool) -> Any:
    """A value with every member, or with `has_more` and unknown members: with the required ones, and null for others.

    Objects without described members are the client's own data: whatever is in them stays.
    """
    schema = unwrap(schema)
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = schema.get("required", ())
            members = {
                name: make_value(part, has_more=has_more) if name in required or not has_more else None
                for name, part in schema["properties"].items()
            }
            return {**UNKNOWN, **members} if has_more else members
        case "object":
            return dict(UNKNOWN)
        case "array":
            return [make_value(schema["items"], has_more=has_more)] * 2
        case "boolean":
            return True
        case "integer" | "number":
            return schema.get("example", schema.get("minimum", 1))
    return schema.get("example", schema.get("enum", ["a" * schema.get("minLength", 1)])[0])


def keep_required(value: Any, schema: Schema) -> Any:
    """The value without its optional members, at every level."""
    schema = unwrap(schema)
    if isinstance(value, list):
        return [keep_required(item, schema["items"]) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        members = schema["properties"]
        return {name: keep_required(value[name], members[name]) for name in schema.get("required", ())}
    return value


def add_unknown(value: Any, schema: Schema) -> Any:
    """The value with unknown members in every object whose members are described."""
    schema = unwrap(schema)
    if isinstance(value, list):
        return [add_unknown(item, schema["items"]) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        return {**UNKNOWN, **{name: add_unknown(part, schema["properties"][name]) for name, part in value.items()}}
    return value


@each_lenient
def test_unknown_members_at_every_level_are_dropped(schema: Schema) -> None:
    """What is left is the request as if they had never been sent."""
    whole = make_value(schema, has_more=False)

    assert drop_ignored_members(add_unknown(whole, schema), schema) == whole
    assert drop_ignored_members(whole, schema) == whole


@each_lenient
def test_null_for_every_optional_member_is_its_absence(schema: Schema) -> None:
    """In the request itself and in the objects in it."""
    nulls = make_value(schema, has_more=True)

    dropped = drop_ignored_members(nulls, schema)

    assert dropped == keep_required(make_value(schema, has_more=False), schema)
    assert list(RequestSchemaValidator(schema).iter_errors(dropped)) == []


@each_lenient
def test_null_for_a_required_member_is_left_for_the_validator(schema: Schema) -> None:
    """It names the member."""
    for name in schema.get("required", ()):
        body = {**make_value(schema, has_more=False), name: None}

        (error,) = RequestSchemaValidator(schema).iter_errors(drop_ignored_members(body, schema))

        assert list(error.absolute_path) == [name]


@each_lenient
def test_the_spec_says_what_is_taken(schema: Schema) -> None:
    """Objects are open, and optional members may be null: generated clients and fuzzers read it there."""
    for described in iterate_objects(schema):
        assert described.get("additionalProperties") is not False
        optional = described["properties"].keys() - set(described.get("required", ()))
        assert {name for name in optional if not described["properties"][name].get("nullable")} == set()


@each_strict
def test_a_keepers_document_is_read_as_it_is(schema: Schema) -> None:
    """A typo in it would be a lost change, so nothing is dropped and the validator names the member."""
    for described in iterate_objects(schema):
        body = {"thisIsATypo": 1}

        assert described["additionalProperties"] is False
        assert drop_ignored_members(body, described) == body
        errors = RequestSchemaValidator(described).iter_errors(body)
        assert "additionalProperties" in {error.validator for error in errors}


def test_a_list_that_is_too_long_is_not_read() -> None:
    """The validator says so at once; to read 80,000 entries for nothing would take long."""
    schema = {"type": "array", "maxItems": 2, "items": {"properties": {"a": {}}}}

    assert drop_ignored_members([{"b": 1}] * 3, schema) == [{"b": 1}] * 3
    assert drop_ignored_members([{"b": 1}] * 2, schema) == [{}, {}]


@pytest.mark.parametrize("value", [None, "text", 7, [], [None], {"a": None}, [{"a": None}]])
def test_a_value_of_another_type_is_left_for_the_validator(value: Any) -> None:
    """Only objects whose members are described lose members."""
    for schema in ({}, {"type": "string"}, {"type": "object"}, {"properties": {}, "additionalProperties": False}):
        assert drop_ignored_members(value, schema) == value
