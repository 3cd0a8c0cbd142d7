"""Validation of request bodies and parameters, in place of Connexion's.

It differs from Connexion's own in four ways: JSON is parsed strictly (`json_bodies`), patterns have the meaning that
OpenAPI gives them, errors name the field, and the validators of an operation are made once, not for each request. What
an error says is made from the schema, or is its `x-error-message`; it never contains the value that was sent, which may
be long or private.

The validators also note in the scope what they have seen, and no handler runs without that, nor on anything else: see
`require_validated` and `get_arguments`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from connexion.decorators.parameter import pythonic
from connexion.json_schema import Draft4RequestValidator
from connexion.middleware.request_validation import RequestValidationAPI, RequestValidationMiddleware
from connexion.operations import AbstractOperation
from connexion.uri_parsing import OpenAPIURIParser
from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import linear_regex
from openapi_server.http.json_bodies import escape_name, parse_json
from openapi_server.http.operation_table import get_operation
from openapi_server.models.errors import FieldError, InvalidInput, UnsupportedMediaType
from openapi_server.worker_threads import run_by_size

VALIDATED_EXTENSION = "zoochat.validated"
_INTEGER = re.compile(r"-?[0-9]{1,18}")
MAX_INLINE_BYTES = 2_048
"""Bodies up to this size are parsed and validated on the event loop: that takes up to a few milliseconds."""
# More errors than anybody reads; a list of 80,000 wrong items has as many.
_MAX_ERRORS = 20
_MAX_FIELD_CHARS = 128
TYPE_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}


# The form in which the spec says: 1 to N+2 characters, without the blanks around them.
_TRIMMED_LENGTH = linear_regex.compile(r"^\^\\s\*\\S\(\?:\[\\s\\S\]\{0,([0-9]+)\}\\S\)\?\\s\*\$\Z")


@cache
def compile_pattern(pattern: str) -> Callable[[str], object]:
    r"""The search for a `pattern` of the spec. It takes time linear in the text.

    OpenAPI patterns are those of ECMA 262, where `$` is the end; Python's also matches before a last line feed. What
    says how long a text is without the blanks around it is counted, not matched.

    >>> is_message = compile_pattern(r"^\s*\S(?:[\s\S]{0,2}\S)?\s*$")
    >>> [is_message(text) for text in ("  Roar ", " \n", "Roar!")]
    [True, False, False]
    """
    if trimmed := _TRIMMED_LENGTH.match(pattern):
        longest = int(trimmed[1]) + 2
        return lambda text: 0 < len(text.strip()) <= longest
    ends = pattern.endswith("$") and not pattern.endswith(r"\$")
    return linear_regex.compile(pattern[:-1] + r"\Z" if ends else pattern).search


def _check_pattern(validator: Any, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not compile_pattern(pattern)(instance):
        yield ValidationError("does not match the pattern")


def _check_size(validator: Any, limit: int, instance: object, schema: object) -> Iterator[ValidationError]:
    """`x-max-bytes`: the size as compact JSON in UTF-8."""
    if len(json.dumps(instance, ensure_ascii=False, separators=(",", ":")).encode()) > limit:
        yield ValidationError("is too large")


def _check_items(validator: Any, items: object, instance: object, schema: Any) -> Iterator[ValidationError]:
    """Of a list that is too long, `maxItems` is all there is to say."""
    if isinstance(instance, list) and len(instance) <= schema.get("maxItems", math.inf):
        yield from Draft4Validator.VALIDATORS["items"](validator, items, instance, schema)


def _check_other_members(validator: Any, others: object, instance: object, schema: Any) -> Iterator[ValidationError]:
    """One error for all members that are not known. jsonschema's would list them, and be as long as the body."""
    if not isinstance(instance, dict) or len(instance) > schema.get("maxProperties", math.inf):
        return
    if others is not False:
        yield from Draft4Validator.VALIDATORS["additionalProperties"](validator, others, instance, schema)
    elif not instance.keys() <= schema.get("properties", {}).keys():
        yield ValidationError("has members that are not known")


RequestSchemaValidator = extend(  # type: ignore[no-untyped-call]
    Draft4RequestValidator,
    {
        "pattern": _check_pattern,
        "x-max-bytes": _check_size,
        "items": _check_items,
        "additionalProperties": _check_other_members,
    },
)


class Unvalidated(Exception):
    """A request reached a handler although a validator has not seen all of it."""


@dataclass(slots=True)
class _Validated:
    """What the validators have seen of a request: of which operation the parameters and the body, and their values.

    `arguments`: the parameters in path and query, and the body, by the names of the handler's arguments.
    """

    parameters_of: str | None = None
    body_of: str | None = None
    body: object = None
    arguments: dict[str, object] = field(default_factory=dict)


def require_validated(scope: Scope) -> None:
    """Raise `Unvalidated` unless this operation's validators have seen the parameters, and the body if it takes one."""
    operation = get_operation(scope)
    routed = _get_routed_operation_id(scope)
    validated: _Validated = scope["extensions"].get(VALIDATED_EXTENSION, _Validated())
    if operation is None or operation.operation_id != routed or validated.parameters_of != routed:
        raise Unvalidated(routed)
    if operation.media_types and validated.body_of != routed:
        raise Unvalidated(routed)


def _get_validated(scope: Scope) -> _Validated:
    validated: _Validated = scope["extensions"].setdefault(VALIDATED_EXTENSION, _Validated())
    return validated


def _get_routed_operation_id(scope: Scope) -> str | None:
    operation_id: str | None = scope["extensions"].get("connexion_routing", {}).get("operation_id")
    return operation_id


def get_arguments(scope: Scope) -> Mapping[str, object]:
    """The parameters in path and query and the body, as they were validated, by the names of handlers' arguments."""
    return _get_validated(scope).arguments


class StrictBodyValidator:
    """Request bodies of `application/json`. One serves all requests of its operation."""

    def __init__(self, schema: dict[str, Any], *, required: bool) -> None:
        self._schema = schema
        self._required = required
        self._validator = _make_validator(schema)

    async def wrap_receive(self, receive: Receive, *, scope: Scope) -> tuple[Receive, Scope]:
        """Read and validate the body. Returns a `receive` that has it again, without what is ignored in it."""
        if self._required and _get_header(scope, b"content-length") in (None, "0"):
            raise InvalidInput("A request body is required.", errors=(FieldError("body", "is required"),))
        raw = await _read_body(receive)
        validated = _get_validated(scope)
        validated.body_of, validated.body = _get_routed_operation_id(scope), None
        if raw or self._required:
            body, is_changed = await run_by_size(len(raw), partial(self._read, raw), MAX_INLINE_BYTES)
            validated.body = body
            if is_changed:
                raw = json.dumps(body).encode()
                kept = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
                scope = {**scope, "headers": [*kept, (b"content-length", str(len(raw)).encode())]}
        return _replay_body(raw, receive), scope

    def _read(self, raw: bytes) -> tuple[object, bool]:
        """The body without what is ignored in it, and whether anything was."""
        sent = parse_json(raw)
        body = drop_ignored_members(sent, self._schema)
        _raise_errors(self._validator.iter_errors(body), "body")
        return body, body != sent


async def _read_body(receive: Receive) -> bytes:
    """The body, which is there already: `RequestLimitsMiddleware` has read it."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body first, and then the further messages of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body_first() -> Message:
        return messages.pop() if messages else await receive()

    return receive_body_first


def _get_header(scope: Scope, name: bytes) -> str | None:
    """The first header with the name, which is in lower case."""
    found = next((value for given, value in scope["headers"] if given == name), None)
    return None if found is None else found.decode("latin-1")


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of the spec. `argument`: the name that Connexion gives it as an argument of the handler."""

    name: str
    place: str
    argument: str
    is_required: bool
    validator: Any
    default: object

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> _Parameter:
        if given["in"] not in ("query", "path", "header"):
            raise ValueError(f"openapi.yaml: {given['name']} is a parameter in {given['in']}, which is not validated")
        schema = given["schema"]
        validator = _make_validator(schema)
        is_required = given.get("required", False)
        return cls(given["name"], given["in"], pythonic(given["name"]), is_required, validator, schema.get("default"))


class StrictParameterValidator:
    """Path, query and header parameters. One serves all requests of its operation."""

    def __init__(self, parameters: Sequence[Mapping[str, Any]]) -> None:
        self._uri_parser = StrictURIParser(parameters, {})
        made = [_Parameter.make(parameter) for parameter in parameters]
        # Of several that are wrong, the first one is named.
        self._parameters = [one for place in ("query", "path", "header") for one in made if one.place == place]
        self._query_names = frozenset(one.name for one in made if one.place == "query")
        self._header_names = {one.name.lower().encode(): one.name for one in made if one.place == "header"}

    def validate(self, scope: Scope) -> None:
        query = self._read_query(scope)
        path = self._uri_parser.resolve_path(scope["path_params"]) if scope.get("path_params") else {}
        given = {"query": query, "path": path, "header": self._read_headers(scope)}
        arguments: dict[str, object] = {}
        for parameter in self._parameters:
            value = given[parameter.place].get(parameter.name)
            if value is not None:
                _raise_errors(parameter.validator.iter_errors(value), parameter.name)
            elif parameter.is_required:
                raise InvalidInput.for_field(parameter.name, "is required")
            else:
                value = parameter.default
            if value is not None and parameter.place != "header":
                arguments[parameter.argument] = value
        validated = _get_validated(scope)
        validated.parameters_of, validated.arguments = _get_routed_operation_id(scope), arguments

    def _read_query(self, scope: Scope) -> dict[str, Any]:
        """The parameters in the query, each of which is there once. Raises `InvalidInput` for those not known here.

        Connexion would ignore them: whoever asks for `page=2` would read the first page for ever. Addresses of pages
        for people are passed on with parameters of others, such as `utm_source`.
        """
        query = scope["query_string"]
        if not query:
            return {}
        given = dict(parse_qsl(query.decode("ascii"), keep_blank_values=True))
        operation = get_operation(scope)
        unknown = [name for name in given if name not in self._query_names]
        if unknown and not (operation is not None and operation.ignores_unknown_query):
            errors = (FieldError(escape_name(name) or "query", "is not known here") for name in unknown[:_MAX_ERRORS])
            raise InvalidInput.for_fields(*errors)
        known = {name: [value] for name, value in given.items() if name in self._query_names}
        resolved: dict[str, Any] = self._uri_parser.resolve_query(known)
        return resolved

    def _read_headers(self, scope: Scope) -> dict[str, str]:
        """Of several with one name the first."""
        names = self._header_names
        found: dict[str, str] = {}
        for name, value in scope["headers"] if names else ():
            if name in names:
                found.setdefault(names[name], value.decode("latin-1"))
        return found


class OperationValidation:
    """ASGI application: validates the requests of one operation, and passes them on."""

    def __init__(self, app: ASGIApp, operation: AbstractOperation) -> None:
        self._app = app
        self._parameters = StrictParameterValidator(operation.parameters)
        body = operation.request_body
        is_required = body.get("required", False)
        self._bodies = {
            media_type: StrictBodyValidator(operation.body_schema(media_type), required=is_required)
            for media_type in body.get("content", {})
        }
        self._body_argument = pythonic(operation.body_name(None)) if body else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._parameters.validate(scope)
        if self._bodies:
            receive, scope = await self._choose_validator(scope).wrap_receive(receive, scope=scope)
            validated = _get_validated(scope)
            # As Connexion has it: a handler gets an empty object for a body that is not there.
            validated.arguments[self._body_argument] = {} if validated.body is None else validated.body
        await self._app(scope, receive, send)

    def _choose_validator(self, scope: Scope) -> StrictBodyValidator:
        """The one of the media type that `OperationMiddleware` has found; of the first one where there is no body."""
        media_type = _get_header(scope, b"content-type") or next(iter(self._bodies))
        validator = self._bodies.get(media_type)
        if validator is None:
            raise UnsupportedMediaType
        return validator


class _ValidationAPI(RequestValidationAPI):  # type: ignore[misc]  # Connexion has no types
    def make_operation(self, operation: AbstractOperation) -> OperationValidation:
        return OperationValidation(self.next_app, operation)


class ValidationMiddleware(RequestValidationMiddleware):  # type: ignore[misc]  # Connexion has no types
    """Connexion's middleware, with our validators."""

    api_cls = _ValidationAPI


class StrictURIParser(OpenAPIURIParser):  # type: ignore[misc]  # Connexion has no types
    """Parameters in the path and the query. Connexion takes for an integer what Python's `int` takes, such as `٣`."""

    def resolve_params(self, params: Mapping[str, Any], _in: str) -> dict[str, Any]:
        resolved: dict[str, Any] = super().resolve_params(params, _in)
        for name, value in resolved.items():
            given = params[name] if _in == "path" else params[name][-1]
            if isinstance(value, int) and not isinstance(value, bool) and not _INTEGER.fullmatch(given):
                resolved[name] = given
        return resolved


def drop_ignored_members(value: object, schema: Mapping[str, Any]) -> object:
    """The value without members that its schema does not know, and without `null` where a member is optional.

    Clients send more than an API knows, and `null` for what they do not have. Only open schemas are read so: where
    `additionalProperties` is false, such a member is a typo that has to be told. An object without `properties` is
    data of the client and stays as it is.

    >>> schema = {"required": ["message"], "properties": {"message": {"type": "string"}, "sessionId": {}}}
    >>> drop_ignored_members({"message": "Hi", "sessionId": None, "userId": "mia"}, schema)
    {'message': 'Hi'}
    """
    while len(schema.get("allOf", ())) == 1:
        # A reference with more beside it, such as a description.
        schema = schema["allOf"][0]
    if isinstance(value, list) and len(value) <= schema.get("maxItems", math.inf):
        return [drop_ignored_members(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict) or "properties" not in schema or schema.get("additionalProperties") is False:
        return value
    members, required = schema["properties"], schema.get("required", ())
    return {
        name: drop_ignored_members(part, members[name])
        for name, part in value.items()
        if name in members and (part is not None or name in required)
    }


def _make_validator(schema: dict[str, Any]) -> Any:
    return RequestSchemaValidator(schema, format_checker=Draft4Validator.FORMAT_CHECKER)


def _raise_errors(errors: Iterable[Any], root_name: str) -> None:
    """Raise one `InvalidInput` for the wrong fields; of each field it names the first error."""
    found: dict[str, FieldError] = {}
    for error in islice(errors, _MAX_ERRORS):
        field_error = _make_field_error(error, root_name)
        found.setdefault(field_error.field, field_error)
    if found:
        raise InvalidInput.for_fields(*found.values())


def _make_field_error(error: Any, root_name: str) -> FieldError:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return FieldError(".".join([*path, missing])[:_MAX_FIELD_CHARS], "is required")
    if error.validator == "additionalProperties":
        known = set(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in known)
        return FieldError(".".join([*path, unknown])[:_MAX_FIELD_CHARS], "is not known here")
    return FieldError(".".join(path)[:_MAX_FIELD_CHARS] or root_name, _describe_error(error))


def _describe_error(error: Any) -> str:
    """What a valid value would be."""
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
