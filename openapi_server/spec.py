"""The API description, `openapi.yaml`, as data: as it is written, and as the server itself needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from openapi_server.yaml_files import load_packaged_yaml

PACKAGE = Path(__file__).parent
OTHER_RESPONSES, FRAMES = "x-other-responses", "x-frames"
# What a schema is where null is allowed beside a reference, for validators of OpenAPI 3.0.
_ONLY_NULL = {"type": "string", "nullable": True, "enum": [None]}


def get_spec_path() -> Path:
    """The path of `openapi.yaml`: in the top folder of a checkout, inside the package when it is installed."""
    installed = PACKAGE / "openapi.yaml"
    return installed if installed.exists() else PACKAGE.parent / "openapi.yaml"


@cache
def load_spec() -> dict[str, Any]:
    """The document as it is written, with its `$ref`s unresolved. It is read once: callers must not change it."""
    loaded: dict[str, Any] = load_packaged_yaml(get_spec_path())
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
        return {**rest, "anyOf": [*part["allOf"], _ONLY_NULL]}
    return part
