"""Checks of streams and JSON values against `openapi.yaml`; streams by the same rules as `zoochat check` has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from jsonschema import ValidationError
from jsonschema.validators import extend
from openapi_schema_validator import OAS30ReadValidator, oas30_format_checker

from openapi_server.devtools.check import stream_rules
from openapi_server.devtools.check.stream_rules import SseEvent, StreamRules, check_bytes, check_ids
from openapi_server.spec import load_strict_spec

__all__ = ["CHECKED", "SseEvent", "assert_conforms", "check_order", "check_stream", "parse_events"]

# How many streams of each operation were checked, for the report at the end of the suite.
CHECKED: Counter[str] = Counter()


def parse_events(raw: bytes, *, is_whole: bool = True) -> list[SseEvent]:
    """The events of a recorded stream, after the byte rules of the contract were checked.

    A stream without a retry line has to be a bare one.
    """
    is_bare = not raw.startswith(b"retry: 2000\n")
    check_bytes(raw, is_whole=is_whole, is_bare=is_bare)
    return stream_rules.parse_events(raw)


def check_stream(
    path: str,
    raw: bytes,
    *,
    method: str = "post",
    is_whole: bool = True,
    is_resumed: bool = False,
    is_resumable: bool = False,
) -> list[SseEvent]:
    """The events of a stream that `method path` answered with, after all of the contract was checked.

    `is_resumable`: the request said that it means to resume, so that the stream is not bare in any contract.
    """
    rules = _rules(path, method)
    is_bare = rules.is_bare_by_default and not (is_resumed or is_resumable)
    assert raw.startswith(b"retry: 2000\n") is not is_bare, "only a bare stream begins without a retry line"
    events = parse_events(raw, is_whole=is_whole)
    # Another process that tells how a turn has failed does not know the number of its last entry.
    numbered = events[:-1] if events and {"error", "problem"} & events[-1].data.keys() else events
    assert is_bare or all(event.id for event in numbered if event.event in ("message", "chunk"))
    rules.check_events(events)
    rules.check_order(events, is_resumed=is_resumed, is_whole=is_whole)
    # The zoo's own contract has a word for every entry of the log; the others leave gaps.
    check_ids(events, is_gapless=path.startswith("/convo"))
    CHECKED[f"{method.upper()} {path}"] += 1
    return events


def check_order(names: Sequence[str], path: str = "/convo_turn_stream", *, is_whole: bool = True) -> None:
    """Hold a list of event names against the state machine of an operation."""
    _rules(path, "post").check_names(names, is_whole=is_whole)


@cache
def _rules(path: str, method: str) -> StreamRules:
    """The rules of the operation, held strictly: an event has the members that the spec has, and no others."""
    return QuickRules.from_spec(load_strict_spec(), path, method)


class QuickRules(StreamRules):
    """The same rules, prepared once: the suite checks many thousand events."""

    @cached_property
    def _validator(self) -> OAS30ReadValidator:
        schema = {"allOf": [self._resolve(self.media["x-itemSchema"])], "components": self.components}
        return QuickValidator(schema, format_checker=oas30_format_checker)

    def _resolve(self, part: Any) -> Any:
        """The schema with what its references stand for. Where the validator reads them itself, they stay."""
        if isinstance(part, list):
            return [self._resolve(value) for value in part]
        if not isinstance(part, Mapping) or "discriminator" in part:
            return part
        if "$ref" in part:
            _, _, kind, name = part["$ref"].split("/")
            return self._resolve(self.components[kind][name])
        return {name: value if name == "example" else self._resolve(value) for name, value in part.items()}


def _check_one_of(
    validator: Any, schemas: Sequence[Any], instance: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """As the validator's own, which lists everything that is wrong with the schemas that do not match."""
    if "discriminator" in schema:
        yield from OAS30ReadValidator.VALIDATORS["oneOf"](validator, schemas, instance, schema)
    elif sum(validator.evolve(schema=each).is_valid(instance) for each in schemas) != 1:
        yield ValidationError("not valid under exactly one of the schemas")


QuickValidator = extend(OAS30ReadValidator, {"oneOf": _check_one_of})  # type: ignore[no-untyped-call]  # its types lack this


def assert_conforms(value: object, name: str) -> None:
    """The value matches the component, also where it never went over HTTP. It has no members that the spec has not.

    `name`: that of a schema, or that of a frame (`ConvoFrame`), which is an event with its id and name.
    """
    _make_validator(name).validate(value)


@cache
def _make_validator(name: str) -> OAS30ReadValidator:
    kind = "x-frames" if name.endswith("Frame") else "x-strict"
    components = load_strict_spec()["components"]
    schema = {"allOf": [{"$ref": f"#/components/{kind}/{name}"}], "components": components}
    return OAS30ReadValidator(schema, format_checker=oas30_format_checker)
