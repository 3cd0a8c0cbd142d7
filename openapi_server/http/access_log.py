"""The access log: a request id for every request, and one log line when its answer has been sent."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = structlog.get_logger(__name__)


class AccessLogMiddleware:
    """ASGI middleware: adds `X-Request-Id` to the answer and to the log lines of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _choose_request_id(Headers(scope=scope))
        status: int | None = None
        # Connexion stores the operation here, which the log line names: a path would contain ids.
        scope.setdefault("extensions", {})
        began_s = time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _log_request(scope, status, began_s)


def _log_request(scope: Scope, status: int | None, began_s: float) -> None:
    routing = scope["extensions"].get("connexion_routing", {})
    log.info(
        "request",
        # Any text may arrive as a method.
        method=scope["method"][:16],
        operation=(routing.get("operation_id") or "-").rpartition(".")[2],
        status=status,
        duration_ms=round((time.monotonic() - began_s) * 1000),
    )


def _choose_request_id(headers: Headers) -> str:
    """The client's own id, if it is short and plain enough for a log line; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
