"""`openapi.yaml` as tools read it: generators of clients, linters, Swagger UI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from connexion.exceptions import InvalidSpecification
from connexion.spec import Specification

from openapi_server import __version__
from openapi_server.spec import get_spec_path, load_complete_spec, load_spec, load_strict_spec

Schema = dict[str, Any]
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    (method, path, operation) for path, item in load_spec()["paths"].items() for method, operation in item.items()
]
NAMES = [f"{method.upper()} {path}" for method, path, _ in OPERATIONS]
each_operation = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
# The verbs with which the ids of operations begin; those of the first contract are their paths.
VERBS = (
    "allocate ask attach check compare confirm create delete erase export get list login logout make observe open "
    "promote put refresh replace search send set simulate stop stream summarize validate"
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
    assert operation.get("security") in (None, [], [{"bearerAuth": []}]), "an optional login is the document's own"
    name = operation["operationId"]
    assert name in PATH_IDS or ("_" in name and name.split("_")[0] in VERBS) or name in {"login", "logout"}


def test_a_login_is_optional_for_the_whole_document() -> None:
    """Generators that look at operations alone take an alternative to a login there for a login that is needed."""
    assert load_spec()["security"] == [{"bearerAuth": []}, {}]


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


def iterate_inline_schemas() -> Iterator[tuple[str, Schema]]:
    """Every schema that is written where it is used, with its place."""
    spec = load_spec()
    for name, schema in spec["components"]["schemas"].items():
        yield from iterate_inner_schemas(schema, name)
    for kind in ("parameters", "headers", "responses", "requestBodies"):
        yield from iterate_media_schemas(spec["components"][kind], kind)
    yield from iterate_media_schemas(spec["paths"], "paths")


def iterate_media_schemas(part: Any, place: str) -> Iterator[tuple[str, Schema]]:
    for pointer, value in iterate_parts(part, place):
        if isinstance(value, dict) and isinstance(value.get("schema"), dict):
            yield pointer, value["schema"]
            yield from iterate_inner_schemas(value["schema"], pointer)


def iterate_inner_schemas(schema: Schema, place: str) -> Iterator[tuple[str, Schema]]:
    inner = {f"{place}.{name}": member for name, member in schema.get("properties", {}).items()}
    inner |= {f"{place}[]": schema["items"]} if "items" in schema else {}
    inner |= (
        {f"{place}.*": schema["additionalProperties"]}
        if schema.get("additionalProperties") not in (True, False, None)
        else {}
    )
    for keyword in ("oneOf", "allOf", "anyOf"):
        inner |= {f"{place}.{keyword}[{index}]": choice for index, choice in enumerate(schema.get(keyword, ()))}
    for where, each in inner.items():
        yield where, each
        yield from iterate_inner_schemas(each, where)


def test_every_object_and_enum_has_a_name() -> None:
    """Generators number what has none (`Data1` to `Data21`), and its number changes with the next member before it."""
    found = list(iterate_inline_schemas())
    unnamed = [
        place
        for place, schema in found
        if ("enum" in schema and "headers" not in place.split("/"))
        or "properties" in schema
        or any(len(schema.get(keyword, ())) > 1 for keyword in ("oneOf", "anyOf", "allOf"))
    ]
    assert len(found) > 900
    assert unnamed == []


def find_schemas(part: Any) -> set[str]:
    """The names of all schemas that a part of the document uses, directly or through others."""
    found: set[str] = set()
    waiting = [part]
    while waiting:
        for _, value in iterate_parts(waiting.pop()):
            reference = value.get("$ref") if isinstance(value, dict) else None
            if isinstance(reference, str) and reference not in found:
                found.add(reference)
                waiting.append(resolve(value))
    return {reference.rpartition("/")[2] for reference in found if "/schemas/" in reference}


def test_answers_are_open() -> None:
    """A client that was generated today reads an answer that has one member more tomorrow."""
    schemas = load_spec()["components"]["schemas"]
    answered = find_schemas([[each["responses"], each.get("x-other-responses")] for _, _, each in OPERATIONS])

    assert len(answered) > 100
    assert [name for name in sorted(answered) if schemas[name].get("additionalProperties") is False] == []


def test_what_keepers_write_is_closed() -> None:
    """There, a member that is not known is a typo, and would be a lost change."""
    schemas = load_spec()["components"]["schemas"]
    for name in ("AnimalDocument", "AnimalFact", "AnimalSettings", "GuardrailRule"):
        written = [name, *sorted(find_schemas(schemas[name]))]
        objects = [each for each in written if "properties" in schemas[each]]
        assert [each for each in objects if schemas[each].get("additionalProperties") is not False] == []


def test_what_keepers_read_is_what_they_write() -> None:
    """With the same members: `PUT` takes what `GET` gave."""
    schemas = load_spec()["components"]["schemas"]
    for written, read in (
        ("AnimalDocument", "StoredAnimal"),
        ("AnimalDocumentIndividual", "StoredIndividual"),
        ("AnimalDocumentVoice", "StoredVoice"),
        ("AnimalModelSettings", "StoredModelSettings"),
        ("AnimalSource", "StoredSource"),
        ("AnimalConservation", "ConservationStatus"),
        ("AnimalFact", "StoredFact"),
        ("GuardrailRule", "StoredRule"),
        ("RuleWordsByAge", "StoredRuleWordsByAge"),
    ):
        assert schemas[written]["properties"].keys() == schemas[read]["properties"].keys()
        assert schemas[written].get("required") == schemas[read].get("required")


def test_no_component_may_be_null_and_no_member_has_a_default() -> None:
    """Generators lose the null of a named schema; openapi-typescript requires each member that has a default."""
    schemas = load_spec()["components"]["schemas"]
    members = [member for schema in schemas.values() for member in schema.get("properties", {}).values()]

    assert [name for name, schema in schemas.items() if "nullable" in schema] == []
    assert [member for member in members if "default" in member] == []
    beside_references = [member for member in members if "nullable" in member and "type" not in member]
    assert len(beside_references) > 3
    assert all(len(member["allOf"]) == 1 for member in beside_references)


STREAMS = [
    (path, media)
    for _, path, operation in OPERATIONS
    for media_type, media in operation["responses"].get("200", {}).get("content", {}).items()
    if media_type == "text/event-stream"
]


@each_operation
def test_an_answer_has_one_media_type(method: str, path: str, operation: dict[str, Any]) -> None:
    """Generators take one. Where an operation has two for people and programs, or by `Accept`, the default is first."""
    for status, response in operation["responses"].items():
        media_types = list(resolve(response).get("content", {}))
        if len(media_types) > 1:
            assert (path, status, media_types[0]) in {
                ("/", "200", "text/html"),
                ("/convo_history", "200", "application/json"),
                ("/problems", "200", "application/json"),
                ("/problems/{code}", "200", "application/json"),
                ("/system_health", "200", "application/json"),
                ("/metrics", "200", "text/plain"),
            }
    for response in operation.get("x-other-responses", {}).values():
        assert method in ("post", "get")
        assert response.keys() in ({"content"}, {"$ref"})


def test_json_is_first_where_json_is_the_default() -> None:
    """`POST /convo_turn` has its reply alone among the responses, and the stream among the others."""
    operation = load_spec()["paths"]["/convo_turn"]["post"]
    complete = load_complete_spec()["paths"]["/convo_turn"]["post"]["responses"]["200"]["content"]

    assert list(operation["responses"]["200"]["content"]) == ["application/json"]
    assert list(complete) == ["application/json", "text/event-stream"]


@pytest.mark.parametrize(("path", "media"), STREAMS, ids=[path for path, _ in STREAMS])
def test_the_schema_of_a_stream_is_that_of_its_data(path: str, media: dict[str, Any]) -> None:
    """The union of the `data` of its frames, by `type` where the contract has one."""
    union = media["schema"]["$ref"].rpartition("/")[2]
    frames = resolve(media["x-itemSchema"])
    data = {
        resolve(frame)["properties"]["data"]["$ref"].rpartition("/")[2]
        for frame in frames["oneOf"]
        if "$ref" in resolve(frame)["properties"]["data"]
    }
    schema = resolve(media["schema"])
    choices = schema.get("oneOf") or schema.get("anyOf") or []

    # The device API has one form of data, whose frames say more about its values.
    assert data == {choice["$ref"].rpartition("/")[2] for choice in choices} or union == "DeviceEvent"
    if all("type" in resolve(choice)["properties"] for choice in choices) and choices:
        mapping = schema["discriminator"]["mapping"]
        assert schema["discriminator"]["propertyName"] == "type"
        for choice in choices:
            values = resolve(resolve(choice)["properties"]["type"])["enum"]
            assert [mapping[value] for value in values] == [choice["$ref"]] * len(values)


@pytest.mark.parametrize("load", [load_complete_spec, load_strict_spec])
def test_connexion_takes_the_description(load: Callable[[], dict[str, Any]]) -> None:
    """In both forms in which a server may use it: a start does not hold it against the schema of OpenAPI again."""
    assert Specification.load(deepcopy(load()))["paths"]

    broken = deepcopy(load())
    del broken["info"]["title"]
    with pytest.raises(InvalidSpecification):
        Specification.load(broken)
