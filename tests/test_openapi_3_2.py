"""The document in OpenAPI 3.2 says what the file says, in that version's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from openapi_schema_validator import OAS32Validator

from openapi_server.spec import load_complete_spec, load_spec, load_spec_3_2
from tests.support.processes import run_zoochat
from tests.test_spec import iterate_parts

NULLS: list[tuple[str, dict[str, Any]]] = [
    (pointer, part)
    for pointer, part in iterate_parts(load_complete_spec()["components"]["schemas"])
    if isinstance(part, dict) and part.get("nullable") is True
]


def find(document: Any, pointer: str) -> Any:
    for name in pointer.removeprefix("#/").split("/"):
        document = document[int(name) if isinstance(document, list) else name]
    return document


def test_each_stream_has_the_schema_of_its_events() -> None:
    """As `itemSchema`, and no `schema`: that would be the one of the list of all events."""
    streams = [
        (media, operation["responses"]["200"]["content"]["text/event-stream"])
        for path, item in load_complete_spec()["paths"].items()
        for method, each in item.items()
        for operation in [load_spec_3_2()["paths"][path][method]]
        for media_type, media in each["responses"].get("200", {}).get("content", {}).items()
        if media_type == "text/event-stream"
    ]

    assert len(streams) > 8
    for media, converted in streams:
        name = media["x-itemSchema"]["$ref"].rpartition("/")[2]
        assert converted["itemSchema"] == {"$ref": f"#/components/schemas/{name}"}
        assert not {"schema", "example", "x-itemSchema"} & converted.keys()
        assert converted["x-event-order"] == media["x-event-order"]


def test_the_data_of_an_event_is_a_text_that_holds_json() -> None:
    """As in OpenAPI 3.2, section 4.14.4."""
    schemas = load_spec_3_2()["components"]["schemas"]
    data = schemas["ChunkFrame"]["properties"]["data"]

    assert data["type"] == "string"
    assert data["contentMediaType"] == "application/json"
    assert data["contentSchema"] == {"$ref": "#/components/schemas/ChunkEvent"}


def test_every_operation_has_all_of_its_responses() -> None:
    """Those that the file has under `x-other-responses` stand among the others."""
    post = load_spec_3_2()["paths"]["/convo_turn_stream"]["post"]

    assert list(post["responses"]["200"]["content"]) == ["text/event-stream", "application/json"]
    assert {"202", "204"} <= post["responses"].keys()
    assert '"x-other-responses":' not in json.dumps(load_spec_3_2())


@pytest.mark.parametrize(("pointer", "schema"), NULLS, ids=[pointer for pointer, _ in NULLS])
def test_what_may_be_null_still_may(pointer: str, schema: dict[str, Any]) -> None:
    """Null is a type there, and `nullable` is no word."""
    converted = find(load_spec_3_2()["components"]["schemas"], pointer)
    whole = {"components": load_spec_3_2()["components"]}

    misfit = True if schema.get("type") in ("string", "integer", "number") else 3.5

    assert "nullable" not in converted
    OAS32Validator({**whole, "allOf": [converted]}).validate(None)
    assert not OAS32Validator({**whole, "allOf": [converted]}).is_valid(misfit)


def test_nothing_of_openapi_3_0_is_left() -> None:
    """No `nullable`, no reference to what is only an extension there, and the same operations."""
    text = json.dumps(load_spec_3_2())

    assert '"nullable"' not in text
    assert '"x-frames":' not in text
    assert "#/components/x-frames" not in text
    assert {path: list(item) for path, item in load_spec_3_2()["paths"].items()} == {
        path: list(item) for path, item in load_spec()["paths"].items()
    }


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize(("version", "document"), [("3.0", load_spec), ("3.2", load_spec_3_2)])
def test_the_command_prints_both(version: str, document: Any, form: str) -> None:
    """In YAML, as the file is, or in JSON."""
    ran = run_zoochat("spec", "--openapi", version, "--format", form)

    loaded = json.loads(ran.stdout) if form == "json" else yaml.load(ran.stdout, yaml.CSafeLoader)
    assert ran.returncode == 0
    assert loaded == json.loads(json.dumps(document()))
