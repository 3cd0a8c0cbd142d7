"""Connexion's validators with our eyes: strict JSON, patterns as OpenAPI means them, errors that name the field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from connexion.json_schema import Draft4RequestValidator
from connexion.validators import JSONRequestBodyValidator, ParameterValidator
from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from openapi_server.http.strict_json import parse_json
from openapi_server.models.errors import FieldError, InvalidInput

TYPE_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}


def _check_ecma_pattern(validator: Any, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
    r"""OpenAPI patterns are ECMA 262's, where `$` is the end; Python's also matches before a last line feed."""
    if isinstance(instance, str) and not re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), instance):
        yield ValidationError("does not match the pattern")


RequestSchemaValidator = extend(Draft4RequestValidator, {"pattern": _check_ecma_pattern})  # type: ignore[no-untyped-call]


class StrictBodyValidator(JSONRequestBodyValidator):  # type: ignore[misc]  # Connexion has no types
    """Request bodies of `application/json`."""

    async def wrap_receive(self, receive: Receive, *, scope: Scope) -> tuple[Receive, Scope]:
        if self._required and Headers(scope=scope).get("content-length", "0") == "0":
            raise InvalidInput("A request body is required.", errors=(FieldError("body", "is required"),))
        wrapped: tuple[Receive, Scope] = await super().wrap_receive(receive, scope=scope)
        return wrapped

    async def _parse(self, stream: Any, scope: Scope) -> object:
        return parse_json(b"".join([part async for part in stream]))

    def _validate(self, body: object) -> None:
        schema = RequestSchemaValidator(self._schema, format_checker=Draft4Validator.FORMAT_CHECKER)
        _raise_errors(schema.iter_errors(body), "body")


class StrictParameterValidator(ParameterValidator):  # type: ignore[misc]  # Connexion has no types
    """Path, query, header and cookie parameters."""

    @staticmethod
    def validate_parameter(
        parameter_type: str, value: object, param: dict[str, Any], param_name: str | None = None
    ) -> None:
        name = str(param["name"])
        if value is not None:
            _raise_errors(
                RequestSchemaValidator(param["schema"], format_checker=Draft4Validator.FORMAT_CHECKER).iter_errors(
                    value
                ),
                name,
            )
        elif param.get("required"):
            raise InvalidInput(f"{name}: is required", errors=(FieldError(name, "is required"),))


VALIDATOR_MAP = {"body": {"application/json": StrictBodyValidator}, "parameter": StrictParameterValidator}


def _raise_errors(errors: Iterable[Any], root_name: str) -> None:
    """Raise one problem for all that is wrong; a field is named once, with the first thing that is wrong with it."""
    found: dict[str, FieldError] = {}
    for error in errors:
        field_error = _make_field_error(error, root_name)
        found.setdefault(field_error.field, field_error)
    if found:
        first = next(iter(found.values()))
        raise InvalidInput(f"{first.field}: {first.message}", errors=tuple(found.values()))


def _make_field_error(error: Any, root_name: str) -> FieldError:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return FieldError(".".join([*path, missing]), "is required")
    if error.validator == "additionalProperties":
        known = set(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in known)
        return FieldError(".".join([*path, unknown])[:128], "is not known here")
    return FieldError(".".join(path) or root_name, _describe_error(error))


def _describe_error(error: Any) -> str:
    """What would be right. Never the value that was sent: it may be long, or private."""
    limit = error.validator_value
    match error.validator:
        case "type":
            return f"must be {TYPE_NAMES.get(limit, limit)}"
        case "enum":
            return f"must be one of {', '.join(str(value) for value in limit)}"
        case "minimum":
            return f"must be at least {limit}"
        case "maximum":
            return f"must be at most {limit}"
    return str(error.schema.get("x-error-message", "is not of the form that the API description gives"))
