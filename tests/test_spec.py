"""`openapi.yaml` as tools read it: generators of clients, linters, Swagger UI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from openapi_server import __version__
from openapi_server.spec import get_spec_path, load_spec

Schema = dict[str, Any]
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    (method, path, operation) for path, item in load_spec()["paths"].items() for method, operation in item.items()
]
NAMES = [f"{method.upper()} {path}" for method, path, _ in OPERATIONS]
each_operation = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
# The verbs with which the ids of operations begin; those of the first contract are their paths.
VERBS = (
    "allocate ask attach check compare confirm create delete erase export get list login logout make observe open "
    "promote put refresh replace send set simulate stop stream summarize validate"
).split()
PATH_IDS = {"animal_details", "animal_list", "convo_turn", "convo_turn_stream"}


def resolve(part: Any) -> Any:
    while isinstance(part, dict) and "$ref" in part:
        found: Any = load_spec()
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        part = found
    return part


def iterate_parts(part: Any, pointer: str = "#") -> Iterator[tuple[str, Any]]:
    """Every object and list of the document, with its JSON pointer; `$ref`s are not followed."""
    yield pointer, part
    if isinstance(part, dict):
        for key, value in part.items():
            yield from iterate_parts(value, f"{pointer}/{str(key).replace('/', '~1')}")
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from iterate_parts(value, f"{pointer}/{index}")


def test_the_file_has_no_merge_keys() -> None:
    """They are not in YAML's JSON schema, which most generators read it with."""
    tokens = yaml.scan(get_spec_path().read_text(encoding="utf-8"))
    assert [token.start_mark.line for token in tokens if getattr(token, "value", None) == "<<"] == []


@each_operation
def test_swagger_ui_fills_in_no_optional_parameter(method: str, path: str, operation: dict[str, Any]) -> None:
    """It takes `example`s over: "Execute" with nothing changed would name a turn that is not there."""
    parameters = [resolve(parameter) for parameter in operation.get("parameters", ())]
    filled_in = [
        parameter["name"]
        for parameter in parameters
        if not parameter.get("required")
        and ({"example", "examples"} & parameter.keys() or "example" in resolve(parameter["schema"]))
    ]
    assert filled_in == []


@each_operation
def test_an_operation_says_what_it_does_and_who_may_use_it(method: str, path: str, operation: dict[str, Any]) -> None:
    """Its id becomes a function's name: it begins with a verb."""
    assert operation["summary"]
    assert operation["description"]
    assert "security" in operation
    name = operation["operationId"]
    assert name in PATH_IDS or ("_" in name and name.split("_")[0] in VERBS) or name in {"login", "logout"}


def test_ids_of_operations_are_unique() -> None:
    """Also where generators write them in another case."""
    ids = [operation["operationId"].replace("_", "").lower() for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", ["/animal_details", "/api/v1/jobs/{jobId}"])
def test_an_address_that_another_one_replaces_is_deprecated(path: str) -> None:
    """It is served as before, and its description names the other one."""
    operation = load_spec()["paths"][path]["get"]
    assert operation["deprecated"] is True
    assert re.match(r"Use `GET /[^`]+`", operation["description"])


def test_versions_in_examples_are_the_servers() -> None:
    """Of the whole document: members named `version` or `releaseId` that are texts."""
    found = {
        pointer: part["example"]
        for pointer, part in iterate_parts(load_spec())
        if re.search(r"/(version|releaseId)$", pointer) and isinstance(part, dict) and "example" in part
    }
    assert len(found) >= 4
    # The health check format separates the version of the interface from that of the release.
    interface = found.pop("#/components/schemas/HealthCheck/properties/version")
    assert interface == __version__.split(".")[0]
    assert set(found.values()) == {__version__}
