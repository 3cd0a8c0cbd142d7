"""Conditional requests (RFC 9110, section 13): a document's version as `ETag`, the versions in `If-Match`, and 304."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import linear_regex

# Our own: werkzeug's parse_etags takes an unquoted 17 for "17", and a `*` only where no blank is beside it.
_TAG = linear_regex.compile(r'(W/)?"([^\x00-\x20"\x7f]*)"')


def encode_etag(version: int) -> str:
    """
    >>> encode_etag(17)
    '"17"'
    """
    return f'"{version}"'


def parse_if_match(if_match: str) -> frozenset[int] | None:
    """The versions that an `If-Match` header names (section 13.1.1), or None for `*`, which is any.

    Weak tags, and tags that are none of ours, match nothing: so they name no version.

    >>> parse_if_match('"17", W/"18", "ours?"'), parse_if_match("*"), parse_if_match("17")
    (frozenset({17}), None, frozenset())
    """
    if if_match.strip() == "*":
        return None
    tags = [(weak, tag) for weak, tag in _TAG.findall(if_match) if not weak]
    return frozenset(int(tag) for _, tag in tags if re.fullmatch(r"[0-9]{1,18}", tag, re.ASCII))


def respond_with_version(body: object, version: int, status: int = 200, **headers: str) -> ASGIApp:
    """The body as JSON, with the version that it was read from as its `ETag`."""
    return JSONResponse(body, status, {"ETag": encode_etag(version), **headers})


class ConditionalGetMiddleware:
    """ASGI middleware: answers `GET` and `HEAD` with 304 when `If-None-Match` has the answer's `ETag`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = Headers(scope=scope).getlist("if-none-match") if scope["type"] == "http" else []
        if not known or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        is_unchanged = False

        async def send_unless_unchanged(message: Message) -> None:
            nonlocal is_unchanged
            if message["type"] == "http.response.start":
                is_unchanged = message["status"] == 200 and _is_known(Headers(raw=message["headers"]), known)
                message = _make_not_modified(message) if is_unchanged else message
            elif is_unchanged:
                message = {**message, "body": b""}
            await send(message)

        await self._app(scope, receive, send_unless_unchanged)


def _is_known(headers: Headers, if_none_match: list[str]) -> bool:
    """Whether the answer's `ETag` is one of those that the client has; weak tags count."""
    current = _TAG.fullmatch(headers.get("etag", ""))
    if current is None:
        return False
    return any(value.strip() == "*" or current[2] in (tag for _, tag in _TAG.findall(value)) for value in if_none_match)


def _make_not_modified(start: Message) -> Message:
    """The start of the 304 answer: what describes the body is left out (section 15.4.5)."""
    dropped = (b"content-length", b"content-type", b"content-encoding")
    kept = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
    return {**start, "status": 304, "headers": kept}
