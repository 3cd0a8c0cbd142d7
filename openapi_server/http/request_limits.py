"""Limits and form of every request, checked before Connexion parses it.

They hold for the size, encoding, framing and arrival time of the body, for the headers, the path and the query.
Measured without them: Connexion answers some of these requests with a 500, accepts others (bodies of 50 MB), and waits
forever for a slow body.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.error_handlers import make_error_response
from openapi_server.http.proxies import is_valid_host
from openapi_server.models.errors import (
    BodyTooLarge,
    ChatError,
    HeadersTooLarge,
    InvalidInput,
    RequestTimeout,
    UnsupportedMediaType,
)

# The ASGI extension that marks a request whose bytes `uvicorn_protocol` could not parse.
INVALID_REQUEST_EXTENSION = "zoochat.invalid_request"

MAX_HEADER_BYTES = 32_768
MAX_PATH_BYTES = 2_048
# A message of 4,000 emoji, percent-encoded, fits.
MAX_QUERY_BYTES = 65_536
MAX_QUERY_PARAMETERS = 100
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
# int() raises ValueError for more than 4,300 digits.
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")


class ClientDisconnected(Exception):
    """The client disconnected before its request was complete."""


class RequestLimitsMiddleware:
    """ASGI middleware: reads the whole body, and answers requests that exceed a limit with 400, 408, 413, 415 or 431.

    The application gets the body in one message, with its true length in `Content-Length`.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, request_timeout_s: float) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._request_timeout_s = request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = _check_head(scope)
            async with asyncio.timeout(self._request_timeout_s):
                body = await self._read_body(headers, receive)
        except ChatError as error:
            await make_error_response(error)(scope, receive, send)
        except TimeoutError:
            await make_error_response(RequestTimeout(headers={"Connection": "close"}))(scope, receive, send)
        except ClientDisconnected:
            return
        else:
            await self._app(_set_content_length(scope, len(body)), _replay_body(body, receive), send)

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        if int(headers.get("content-length", "0")) > self._max_body_bytes:
            raise self._make_too_large_error()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise self._make_too_large_error()
            if not message.get("more_body", False):
                return bytes(body)

    def _make_too_large_error(self) -> BodyTooLarge:
        detail = f"A request body may have {self._max_body_bytes} bytes."
        # The rest of the body would be read as the next request.
        return BodyTooLarge(detail, headers={"Connection": "close"})


def _check_head(scope: Scope) -> Headers:
    if INVALID_REQUEST_EXTENSION in scope.get("extensions", {}):
        raise InvalidInput("This is not a request of HTTP/1.1.", headers={"Connection": "close"})
    if _CONTROL_CHARACTER.search(scope["path"]) or len(scope["path"]) > MAX_PATH_BYTES:
        raise InvalidInput.for_field("path", f"must be at most {MAX_PATH_BYTES} characters without control characters")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"Request headers may have {MAX_HEADER_BYTES} bytes.")
    _check_query(scope["query_string"])
    headers = Headers(scope=scope)
    _check_host(headers.getlist("host"), scope.get("http_version", "1.1"))
    _check_framing(headers)
    if any(coding.strip().lower() not in ("", "identity") for coding in headers.getlist("content-encoding")):
        raise UnsupportedMediaType("Send the body without Content-Encoding.")
    return headers


def _check_query(query: bytes) -> None:
    """Each name is there once: frameworks disagree which of two values counts."""
    if not query.isascii():
        raise InvalidInput.for_field("query", "must be percent-encoded")
    if len(query) > MAX_QUERY_BYTES or query.count(b"&") >= MAX_QUERY_PARAMETERS:
        message = f"must be at most {MAX_QUERY_BYTES} bytes and {MAX_QUERY_PARAMETERS} parameters"
        raise InvalidInput.for_field("query", message)
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput.for_field("query", "must be percent-encoded UTF-8") from None
    names: set[str] = set()
    for name, value in pairs:
        if name in names:
            raise InvalidInput.for_field(_shorten(name), "is there twice")
        if "\0" in name or "\0" in value:
            raise InvalidInput.for_field(_shorten(name), "must not hold NUL")
        names.add(name)


def _check_host(hosts: list[str], http_version: str) -> None:
    """RFC 9112, section 3.2: exactly one, and a valid one. Links and redirects are made of it."""
    if len(hosts) > 1:
        raise InvalidInput.for_field("Host", "is there twice", headers={"Connection": "close"})
    if not hosts and http_version != "1.0":
        raise InvalidInput.for_field("Host", "is required", headers={"Connection": "close"})
    if hosts and not is_valid_host(hosts[0]):
        raise InvalidInput.for_field("Host", "must be a name or an address", headers={"Connection": "close"})


def _check_framing(headers: Headers) -> None:
    """Where the body ends has to be beyond doubt: a proxy in front may read it otherwise (RFC 9112, section 11.2)."""
    codings = headers.getlist("transfer-encoding")
    lengths = headers.getlist("content-length")
    if codings and (lengths or [coding.strip().lower() for coding in codings] != ["chunked"]):
        message = "must be chunked, once, and without Content-Length"
        raise InvalidInput.for_field("Transfer-Encoding", message, headers={"Connection": "close"})
    if len(lengths) > 1 or not all(_CONTENT_LENGTH.fullmatch(length) for length in lengths):
        raise InvalidInput.for_field("Content-Length", "must be a number, once", headers={"Connection": "close"})


def _shorten(name: str) -> str:
    return name.encode("unicode_escape").decode()[:64] or "query"


def _set_content_length(scope: Scope, length: int) -> Scope:
    """The scope with the body's length: Connexion ignores a body without `Content-Length`, such as a chunked one."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*kept, (b"content-length", str(length).encode())] if length else kept}


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body first, and then the further messages of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body_first() -> Message:
        return messages.pop() if messages else await receive()

    return receive_body_first
