"""Limits for every request, checked before Connexion parses it.

They hold for the size, encoding and arrival time of the body, the size of the headers, and the characters of the path.
Measured without them: Connexion answers some of these requests with a 500, accepts others (bodies of 50 MB), and waits
forever for a slow body.
"""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.problems import make_error_response
from openapi_server.models.errors import (
    BodyTooLarge,
    ChatError,
    HeadersTooLarge,
    InvalidInput,
    RequestTimeout,
    UnsupportedMediaType,
)

MAX_HEADER_BYTES = 32_768
MAX_PATH_BYTES = 2_048
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
    if _CONTROL_CHARACTER.search(scope["path"]) or len(scope["path"]) > MAX_PATH_BYTES:
        raise InvalidInput.for_field("path", f"must be at most {MAX_PATH_BYTES} characters without control characters")
    if not scope["query_string"].isascii():
        raise InvalidInput.for_field("query", "must be percent-encoded")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"Request headers may have {MAX_HEADER_BYTES} bytes.")
    headers = Headers(scope=scope)
    if not _CONTENT_LENGTH.fullmatch(headers.get("content-length", "0")):
        raise InvalidInput.for_field("Content-Length", "must be a number")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", headers.get("content-type", ""), re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("Send the body in UTF-8.")
    return headers


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
