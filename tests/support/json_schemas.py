"""Compares what a pydantic model says with what a schema of the contract says: members, limits and choices."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

_COMPARED = (
    "type enum pattern format required minimum maximum minLength maxLength minItems maxItems minProperties "
    "maxProperties items properties additionalProperties oneOf"
).split()


def normalize_model(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema, in the form of `normalize_schema`."""
    schema = model.model_json_schema()
    return normalize_schema(schema, schema)


def normalize_schema(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """References resolved, members named as on the wire, and without what is only for readers.

    That a member may be null is left out, too: in a document no member is.
    """
    whole = dict(schema)
    for part in [whole.pop("$ref", None), *whole.pop("allOf", ())]:
        whole |= _resolve(part, root) if isinstance(part, str) else normalize_schema(part, root) if part else {}
    choices = [each for each in whole.pop("anyOf", whole.pop("oneOf", ())) if each != {"type": "null"}]
    if len(choices) == 1:
        return normalize_schema(whole | choices[0], root)
    if choices:
        whole["oneOf"] = [normalize_schema(choice, root) for choice in choices]
    if "properties" in whole:
        whole["properties"] = {_camel(key): normalize_schema(part, root) for key, part in whole["properties"].items()}
        whole["required"] = sorted(map(_camel, whole.get("required", ())))
    for key in ("items", "additionalProperties"):
        if isinstance(whole.get(key), dict):
            whole[key] = normalize_schema(whole[key], root)
    return {key: whole[key] for key in _COMPARED if key in whole}


def _resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    found: Any = root
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return normalize_schema(found, root)


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda found: found[1].upper(), name)
