"""The edge: what every answer gets, errors included. Cross-origin headers, a request id, one line in the log.

Starlette's own CORS middleware is silent towards callers without `Origin`; our contract wants the headers on every
answer, so that a cache can never keep one without them.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.problems import make_error_response
from openapi_server.models.errors import ChatError

EXPOSED_HEADERS = "X-Streaming-Session-Id, Location, Retry-After, RateLimit, RateLimit-Policy, ETag, X-Request-Id"
ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer, "
    "X-Device-ID, X-Request-Id"
)
PREFLIGHT_MAX_AGE_S = 600
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = structlog.get_logger(__name__)


class Edge:
    """ASGI middleware around everything of ours. `origins` is the allow-list; the first one answers strangers."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = tuple(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Headers(scope=scope)
        exchange = _Exchange(scope, self._cors_headers(request), _choose_request_id(request), send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                await self._serve(request, scope, receive, exchange)
            finally:
                exchange.log()

    async def _serve(self, request: Headers, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        if scope["method"] == "OPTIONS":
            # A preflight never reaches the operations, and asking for the options of anything is harmless.
            await _make_preflight_response()(scope, receive, exchange.send)
            return
        try:
            await self._app(scope, receive, exchange.send)
        except Exception:
            log.exception("unexpected_error")
            if exchange.status is not None:
                # The answer is under way: only cutting the connection tells the client that it is not whole.
                raise
            await make_error_response(ChatError())(scope, receive, exchange.send)

    def _cors_headers(self, request: Headers) -> dict[str, str]:
        origin = request.get("origin")
        headers = {
            "Access-Control-Allow-Origin": origin if origin in self._origins and origin else self._origins[0],
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
        }
        return headers | ({"Access-Control-Allow-Credentials": "true"} if origin in self._origins else {})


class _Exchange:
    """One request and its answer, as far as the edge has to know."""

    def __init__(self, scope: Scope, added: dict[str, str], request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self._scope = scope
        self._added = added
        self._send = send
        self._began_s = time.monotonic()
        # Connexion notes the operation here, for the log line; a path would tell ids.
        scope.setdefault("extensions", {})

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._added.items():
                headers[name] = value
            headers["Vary"] = _add_origin(headers.getlist("vary"))
            headers["X-Request-Id"] = self.request_id
        await self._send(message)

    def log(self) -> None:
        routing = self._scope["extensions"].get("connexion_routing", {})
        log.info(
            "request",
            method=self._scope["method"][:16],
            operation=(routing.get("operation_id") or "-").rpartition(".")[2],
            status=self.status,
            duration_ms=round((time.monotonic() - self._began_s) * 1000),
        )


def _add_origin(varies_by: Sequence[str]) -> str:
    """What the answer varies by already, in however many headers, and the origin."""
    names = [name.strip() for value in varies_by for name in value.split(",")]
    return ", ".join(names if "origin" in map(str.lower, names) else [*names, "Origin"])


def _make_preflight_response() -> Response:
    return Response(
        status_code=204,
        headers={
            "Allow": ALLOWED_METHODS,
            "Access-Control-Allow-Methods": ALLOWED_METHODS,
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
        },
    )


def _choose_request_id(request: Headers) -> str:
    """The caller's own, when it is short and plain enough to stand in a log; else a new one."""
    given = request.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
