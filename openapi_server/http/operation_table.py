"""Which operation of `openapi.yaml` a request is for, and the media type of its body: decided once, before routing.

Connexion, its validators and Flask each find the operation and the media type by themselves, and do not agree about
doubled slashes, a missing `Content-Type` or one that is there twice. So they only get requests that leave no choice: a
path as the spec writes it, and one `Content-Type` of ours where the operation takes a body.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import linear_regex
from openapi_server.http.error_handlers import make_error, make_error_response
from openapi_server.models.errors import ChatError, InvalidInput, MethodNotAllowed, UnsupportedMediaType
from openapi_server.spec import load_spec

NO_STORE = "private, no-store"
OPERATION_EXTENSION = "zoochat.operation"

# A slash or backslash that is part of a name would be a separator for whoever decodes the path first.
_ENCODED_SEPARATORS = ("%2f", "%5c", "\\")
# A client that reconnects adds one of the first two to an address that may have the third from the beginning.
_RESUME_PARAMETERS = ("lastEventId", "last_event_id", "after")
_SINGLE_HEADERS = ("Idempotency-Key", "Last-Event-ID", "X-Device-ID", "X-Session-Token")
# The members of a header's list: commas inside quoted strings do not separate.
_LIST_MEMBER = linear_regex.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_CHARSET = linear_regex.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)", linear_regex.IGNORECASE)
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


@dataclass(frozen=True, slots=True)
class SpecOperation:
    """An operation: its handler's full name, the media types of its body (none: it takes none), the value of
    `Cache-Control` of its answers, the name of its rate limit, the query parameters that it takes in place of the
    header `Last-Event-ID`, the first of which counts, whether it ignores those that it does not know, and whether
    `Accept` may choose between media types of its answers."""

    operation_id: str
    media_types: tuple[str, ...] = ()
    cache_control: str = NO_STORE
    rate_limit: str = "reads"
    resume_parameters: tuple[str, ...] = ()
    ignores_unknown_query: bool = False
    has_several_types: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """A path of the spec with its operations by method. `prefix`: what its alias (`x-alias`) has in front of it."""

    template: str
    operations: Mapping[str, SpecOperation] = field(hash=False)
    prefix: str = ""

    @property
    def allow(self) -> str:
        """The value of `Allow` (RFC 9110, section 10.2.1).

        >>> Address("/jobs", {"GET": SpecOperation("list_jobs")}).allow
        'GET, HEAD, OPTIONS'
        """
        methods = {*self.operations, "OPTIONS", *(["HEAD"] if self.find_operation("HEAD") else [])}
        return ", ".join(sorted(methods))

    def find_operation(self, method: str) -> SpecOperation | None:
        """The operation for the method; `HEAD` is served by that of `GET`, unless that starts a turn."""
        operation = self.operations.get("GET" if method == "HEAD" else method)
        return None if method == "HEAD" and operation and operation.rate_limit == "turns" else operation

    def read_parameters(self, path: str) -> dict[str, str]:
        """The parameters in one of this address's paths, without its prefix.

        >>> Address("/jobs/{jobId}", {}).read_parameters("/jobs/job_1")
        {'jobId': 'job_1'}
        """
        if "{" not in self.template:
            return {}
        parts = zip(self.template.split("/"), path.split("/"), strict=True)
        return {name[1:-1]: part for name, part in parts if name.startswith("{")}


class OperationTable:
    """All addresses of the server: those of the spec, and `documents`, which are only read."""

    def __init__(self, spec: Mapping[str, Any], documents: Sequence[str] = ()) -> None:
        self._literal: dict[str, Address] = {}
        # By the number of their parts and the first one: each request is looked up several times.
        self._templates: dict[tuple[int, str], list[tuple[list[str], Address]]] = {}
        for path in documents:
            self._literal[path] = Address(path, {"GET": SpecOperation(path, cache_control="no-cache")})
        for path, item in spec["paths"].items():
            operations = {method.upper(): _make_operation(spec, item[method]) for method in item}
            prefixes = {_find_prefix(path, operation) for operation in item.values()}
            for prefix in {"", *prefixes}:
                self._add(Address(path, operations, prefix))

    def _add(self, address: Address) -> None:
        path = address.prefix + address.template
        if "{" in path:
            parts = path.split("/")
            if "{" in parts[1]:
                raise ValueError(f"openapi.yaml: {path} begins with a parameter")
            self._templates.setdefault((len(parts), parts[1]), []).append((parts, address))
        else:
            self._literal[path] = address

    @property
    def addresses(self) -> list[Address]:
        templates = (address for found in self._templates.values() for _, address in found)
        return [*self._literal.values(), *templates]

    def find(self, path: str) -> Address | None:
        """The address of a decoded path, which has to be as the spec writes it, to the last slash."""
        literal = self._literal.get(path)
        if literal is not None:
            return literal
        parts = path.split("/")
        candidates = self._templates.get((len(parts), parts[1]), ()) if len(parts) > 1 else ()
        return next((address for template, address in candidates if _matches(template, parts)), None)

    def find_with_other_slash(self, path: str) -> str | None:
        """The path with a slash more or less at its end, if only that exists."""
        other = path[:-1] if path.endswith("/") else f"{path}/"
        return other if self.find(other) is not None else None


class OperationMiddleware:
    """ASGI middleware: answers with 404, 405, 415 or a redirect, or passes the request on in a form without ambiguity.

    It answers `OPTIONS`, serves `HEAD` by `GET`, and drops a body that the operation does not take. Behind it the scope
    has one `Content-Type` where there may be a body, `get_operation`, in place of an alias the path that it is for, and
    the parameters in the path.
    """

    def __init__(self, app: ASGIApp, *, table: OperationTable) -> None:
        self._app = app
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            address = self._find_address(scope)
            if isinstance(address, Response):
                await address(scope, receive, send)
                return
            method = scope["method"]
            if method == "OPTIONS":
                await Response(status_code=204, headers={"Allow": address.allow})(scope, receive, send)
                return
            operation = address.find_operation(method)
            if operation is None:
                raise MethodNotAllowed(headers={"Allow": address.allow})
            headers = _make_headers(scope, operation)
        except ChatError as error:
            await make_error_response(error)(scope, receive, send)
            return
        scope.setdefault("extensions", {})[OPERATION_EXTENSION] = operation
        query, headers = _take_resume_position(scope, headers, operation)
        method_inside = "GET" if method == "HEAD" else method
        inner = {**scope, "headers": headers, "method": method_inside, "query_string": query}
        if address.prefix:
            path = scope["path"].removeprefix(address.prefix)
            inner |= {"path": path, "raw_path": quote(path).encode()}
            send = _add_to_location(send, address.prefix)
        inner["path_params"] = address.read_parameters(inner["path"])
        await self._app(
            inner,
            receive if operation.media_types else _drop_body(receive),
            _drop_answer_body(send) if method == "HEAD" else send,
        )

    def _find_address(self, scope: Scope) -> Address | Response:
        path = scope["path"]
        sent = (scope.get("raw_path") or path.encode()).decode("latin-1").lower()
        if not any(separator in sent for separator in _ENCODED_SEPARATORS):
            address = self._table.find(path)
            if address is not None:
                return address
            other = self._table.find_with_other_slash(path)
            if other is not None:
                query = scope["query_string"].decode("ascii")
                # Without a host: whoever sent the request would have chosen it.
                location = quote(other) + (f"?{query}" if query else "")
                return Response(status_code=307, headers={"Location": location})
        raise make_error(404)


def get_operation(scope: Scope) -> SpecOperation | None:
    """The operation that `OperationMiddleware` found; None when it refused the request."""
    operation: SpecOperation | None = scope.get("extensions", {}).get(OPERATION_EXTENSION)
    return operation


@functools.cache
def load_operation_table(documents: tuple[str, ...] = ()) -> OperationTable:
    return OperationTable(load_spec(), documents)


def choose_media_type(content_types: Sequence[str], accepted: Sequence[str]) -> str:
    """The one of the accepted media types that the `Content-Type` headers name; the first one when there is none.

    Media types are compared without regard to case, and parameters other than `charset` are ignored (RFC 9110, section
    8.3). The same type twice is one. Raises `InvalidInput` for two different ones, else `UnsupportedMediaType`.

    >>> choose_media_type(["Application/JSON; charset=UTF-8"], ["application/json"])
    'application/json'
    """
    found = (member.strip(" \t") for value in content_types for member in _LIST_MEMBER.findall(value))
    given = [member for member in found if member]
    if not given:
        return accepted[0]
    if any(charset.lower() not in _CHARSETS for member in given for charset in _CHARSET.findall(member)):
        raise UnsupportedMediaType("Send the body in UTF-8.")
    names: set[str] = {member.partition(";")[0].strip(" \t").lower() for member in given}
    if len(names) > 1:
        raise InvalidInput.for_field("Content-Type", "must name one media type")
    media_type = names.pop()
    if media_type not in accepted:
        raise UnsupportedMediaType(f"Send {' or '.join(accepted)}.")
    return media_type


def _matches(template: list[str], parts: list[str]) -> bool:
    """Whether a path of as many parts has those of the template, and something where the template has a parameter."""
    return all(bool(part) if name.startswith("{") else part == name for name, part in zip(template, parts, strict=True))


def _find_prefix(path: str, operation: Mapping[str, Any]) -> str:
    """What the operation's `x-alias` has in front of its path; empty where there is none."""
    alias: str = operation.get("x-alias", path)
    if not alias.endswith(path):
        raise ValueError(f"openapi.yaml: the x-alias of {path} must be a prefix and {path}")
    return alias.removesuffix(path)


def _make_operation(spec: Mapping[str, Any], operation: Mapping[str, Any]) -> SpecOperation:
    body = _resolve(spec, operation.get("requestBody", {}))
    parameters = {_resolve(spec, parameter)["name"] for parameter in operation.get("parameters", ())}
    return SpecOperation(
        f"{operation['x-openapi-router-controller']}.{operation['operationId']}",
        tuple(body.get("content", {})),
        operation.get("x-cache-control", NO_STORE),
        operation.get("x-rate-limit", "reads"),
        tuple(name for name in _RESUME_PARAMETERS if name in parameters),
        operation.get("x-unknown-query") == "ignored",
        len(_list_answer_types(spec, operation)) > 1,
    )


def _list_answer_types(spec: Mapping[str, Any], operation: Mapping[str, Any]) -> set[str]:
    """The media types of the operation's successful answers."""
    answers = [*operation["responses"].items(), *operation.get("x-other-responses", {}).items()]
    return {
        media_type
        for status, answer in answers
        if status.startswith("2")
        for media_type in _resolve(spec, answer).get("content", {})
    }


def _resolve(spec: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in part:
        part = functools.reduce(lambda found, name: found[name], part["$ref"].removeprefix("#/").split("/"), spec)
    return part


def _make_headers(scope: Scope, operation: SpecOperation) -> list[tuple[bytes, bytes]]:
    """The request's headers, with one `Content-Type` or none, and without an empty `Last-Event-ID`.

    Raises `InvalidInput` for two of a header that names one thing, and `UnsupportedMediaType`.
    """
    headers = Headers(scope=scope)
    for name in _SINGLE_HEADERS:
        if len(headers.getlist(name)) > 1:
            raise InvalidInput.for_field(name, "is there twice")
    dropped = {b"content-type"} if operation.media_types else {b"content-type", b"content-length"}
    if not headers.get("last-event-id", "").strip():
        # Some readers send it before their first event.
        dropped.add(b"last-event-id")
    kept = [(name, value) for name, value in scope["headers"] if name not in dropped]
    if operation.media_types and "content-length" in headers:
        if "origin" in headers and not any(value.strip() for value in headers.getlist("content-type")):
            # Browsers send a body without a type to other sites unasked, with the visitor's cookies (Fetch standard).
            raise UnsupportedMediaType("A page in a browser has to send Content-Type: application/json.")
        media_type = choose_media_type(headers.getlist("content-type"), operation.media_types)
        kept.append((b"content-type", media_type.encode()))
    return kept


def _take_resume_position(
    scope: Scope, headers: list[tuple[bytes, bytes]], operation: SpecOperation
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The query without empty resume parameters, and the headers with the one that counts as `Last-Event-ID`.

    A browser's EventSource cannot set headers, and some that imitate it do not. A header that was sent comes first.
    """
    query: bytes = scope["query_string"]
    if not operation.resume_parameters or not query:
        return query, headers
    pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if value or name not in operation.resume_parameters]
    given = dict(kept)
    position = next((given[name] for name in operation.resume_parameters if name in given), None)
    if position is not None and all(name != b"last-event-id" for name, _ in headers):
        headers = [*headers, (b"last-event-id", position.encode())]
    return urlencode(kept).encode(), headers


def _drop_body(receive: Receive) -> Receive:
    """A `receive` whose request has no body."""

    async def receive_without_body() -> Message:
        message = await receive()
        return {**message, "body": b""} if message["type"] == "http.request" else message

    return receive_without_body


def _add_to_location(send: Send, prefix: str) -> Send:
    """A `send` whose `Location` is under the prefix: a proxy may let nothing else through."""

    async def send_located(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("location", "").startswith("/"):
                headers["Location"] = prefix + headers["location"]
        await send(message)

    return send_located


def _drop_answer_body(send: Send) -> Send:
    """A `send` for the answer to a `HEAD` request. A stream ends after its headers, as when its reader leaves."""
    is_stream = is_ended = False

    async def send_head(message: Message) -> None:
        nonlocal is_stream, is_ended
        if message["type"] == "http.response.start":
            is_stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            await send(message)
        elif not is_ended:
            is_ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            if is_stream:
                # As `SendTimeout` does for a connection that was lost.
                raise asyncio.CancelledError

    return send_head
