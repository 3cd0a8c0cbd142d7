"""The API description, `openapi.yaml`, as data: as it is written, as the server needs it, and in OpenAPI 3.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from openapi_server.yaml_files import parse_packaged_yaml

PACKAGE = Path(__file__).parent
OTHER_RESPONSES, FRAMES = "x-other-responses", "x-frames"
# A schema that allows null alone: in JSON Schema 2020-12, and in OpenAPI 3.0, which has no such type.
_NULL_TYPE = {"type": "null"}
_NULL_TYPE_3_0 = {"type": "string", "nullable": True, "enum": [None]}


def get_spec_path() -> Path:
    """The path of `openapi.yaml`: in the top folder of a checkout, inside the package when it is installed."""
    installed = PACKAGE / "openapi.yaml"
    return installed if installed.exists() else PACKAGE.parent / "openapi.yaml"


@cache
def read_spec() -> str:
    """The text of the document. It is read once: so all of a process says the same, also when the file is replaced."""
    return get_spec_path().read_text(encoding="utf-8")


@cache
def load_spec() -> dict[str, Any]:
    """The document as it is written, with its `$ref`s unresolved. It is parsed once: callers must not change it."""
    loaded: dict[str, Any] = parse_packaged_yaml(read_spec())
    return loaded


@cache
def load_complete_spec() -> dict[str, Any]:
    """The document in which each operation has all of its responses, also its `x-other-responses`.

    Those are what an operation answers on request, such as JSON for `"stream": false`. Generators of clients take one
    media type for each operation, so the file has the usual one alone under `responses`. Callers must not change it.
    """
    spec = load_spec()
    paths = {
        path: {method: _add_other_responses(operation) for method, operation in item.items()}
        for path, item in spec["paths"].items()
    }
    return {**spec, "paths": paths}


def _add_other_responses(operation: Mapping[str, Any]) -> dict[str, Any]:
    responses = dict(operation["responses"])
    for status, other in operation.get(OTHER_RESPONSES, {}).items():
        usual = responses.get(status, other)
        content = {**usual.get("content", {}), **other.get("content", {})}
        responses[status] = {**usual, "content": content} if content else other
    return {name: value for name, value in operation.items() if name != OTHER_RESPONSES} | {"responses": responses}


@cache
def load_strict_spec() -> dict[str, Any]:
    """The complete document for a strict check of what is answered. Callers must not change it.

    Answers and events refer to twins of the schemas, in `components.x-strict`. Those refuse members that the document
    does not have; it allows them, so that clients that were generated from it do not break when there are more. And
    null beside a reference is spelt so that validators see it.
    """
    spec = load_complete_spec()
    components = spec["components"]
    answers = {name: transform_objects(components[name], _refer_to_strict) for name in ("responses", FRAMES)}
    strict = transform_objects(transform_objects(components["schemas"], _make_strict), _refer_to_strict)
    paths = {
        path: {
            method: {**operation, "responses": transform_objects(operation["responses"], _refer_to_strict)}
            for method, operation in item.items()
        }
        for path, item in spec["paths"].items()
    }
    return {**spec, "paths": paths, "components": {**components, **answers, "x-strict": strict}}


def _refer_to_strict(part: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if not isinstance(reference, str):
        return part
    return {**part, "$ref": reference.replace("#/components/schemas/", "#/components/x-strict/")}


def transform_objects(part: Any, transform: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A copy of the part in which each object is what `transform` makes of it, from the inside out. Examples stay."""
    if isinstance(part, list):
        return [transform_objects(value, transform) for value in part]
    if not isinstance(part, Mapping):
        return part
    inner = {
        name: value if name in ("example", "examples") else transform_objects(value, transform)
        for name, value in part.items()
    }
    return transform(inner)


def _make_strict(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "object" and "properties" in part and "additionalProperties" not in part:
        return {**part, "additionalProperties": False}
    if part.get("nullable") is True and isinstance(part.get("allOf"), list):
        # OpenAPI 3.0.3 knows null beside a `type` only, but generators of clients know it beside `allOf`, too.
        rest = {name: value for name, value in part.items() if name not in ("nullable", "allOf")}
        return {**rest, "anyOf": [*part["allOf"], _NULL_TYPE_3_0]}
    return part


@cache
def load_spec_3_2() -> dict[str, Any]:
    """The complete document in OpenAPI 3.2. Callers must not change it.

    That version has words for what stands in extensions in the file, such as `itemSchema` for the events of a stream,
    and its schemas are those of JSON Schema 2020-12, where null is a type.
    """
    spec = load_complete_spec()
    components = {name: value for name, value in spec["components"].items() if name != FRAMES}
    frames = {name: transform_objects(frame, _convert_frame) for name, frame in spec["components"][FRAMES].items()}
    components["schemas"] = {**components["schemas"], **frames}
    converted: dict[str, Any] = transform_objects(
        {**spec, "openapi": "3.2.0", "components": components}, _convert_to_3_2
    )
    return converted


def _convert_frame(part: dict[str, Any]) -> dict[str, Any]:
    """A frame as OpenAPI 3.2 describes a server-sent event: its data is a text, which holds JSON.

    Readers add `retry`, and the last id to events without one: so the frame is open.
    """
    members = part.get("properties")
    if not isinstance(members, dict) or "event" not in members:
        return part
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": members["data"]}
    frame = {name: value for name, value in part.items() if name != "additionalProperties"}
    return {**frame, "properties": {**members, "data": data}}


def _convert_to_3_2(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("$ref"), str):
        return {**part, "$ref": part["$ref"].replace(f"#/components/{FRAMES}/", "#/components/schemas/")}
    if "x-itemSchema" in part:
        return _convert_stream(part)
    if part.get("nullable") is True:
        return _convert_nullable(part)
    return part


def _convert_stream(media: dict[str, Any]) -> dict[str, Any]:
    """A media type object: in OpenAPI 3.2 its `schema` would be that of the list of all events."""
    dropped = ("schema", "example", "x-itemSchema", "x-example-stream")
    converted = {name: value for name, value in media.items() if name not in dropped}
    converted["itemSchema"] = media["x-itemSchema"]
    if "x-example-stream" in media:
        converted["examples"] = {"stream": {"serializedValue": media["x-example-stream"]}}
    return converted


def _convert_nullable(schema: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in schema.items() if name != "nullable"}
    if "type" in rest:
        rest["type"] = [rest["type"], "null"]
        return rest | ({"enum": [*rest["enum"], None]} if "enum" in rest else {})
    alternatives = rest.pop("allOf")
    return {**rest, "anyOf": [*alternatives, _NULL_TYPE]}
