"""The access log: a request id for every request, and one log line when its answer has been sent."""

from __future__ import annotations

import functools
import re
import time
from urllib.parse import quote

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.raw_headers import encode_header, set_headers
from openapi_server.models.ids import SHORT_ID_LENGTH, take_random_bytes
from openapi_server.spec import load_spec

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# How much of a path is logged that no operation has. A longer part of it may be an id or a token.
MAX_PATH_CHARACTERS = 120
MAX_PATH_PART_CHARACTERS = 20

log = structlog.get_logger(__name__)


class AccessLogMiddleware:
    """ASGI middleware: adds `X-Request-Id` to the answer and to the log lines of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _choose_request_id(scope)
        status: int | None = None
        # Connexion stores the operation here, whose path in the spec is logged: the request's own contains ids.
        scope.setdefault("extensions", {})
        began_s = time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = headers = list(message["headers"])
                set_headers(headers, [encode_header("X-Request-Id", request_id)])
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _log_request(scope, status, began_s)
            structlog.contextvars.reset_contextvars(**bound)


def _log_request(scope: Scope, status: int | None, began_s: float) -> None:
    operation_id = scope["extensions"].get("connexion_routing", {}).get("operation_id")
    log.info(
        "request",
        # Any text may arrive as a method.
        method=scope["method"][:16],
        path=_list_paths().get(operation_id, "-") if operation_id else shorten_path(scope["path"]),
        operation=(operation_id or "-").rpartition(".")[2],
        status=status,
        duration_ms=round((time.monotonic() - began_s) * 1000),
    )


@functools.cache
def _list_paths() -> dict[str, str]:
    """The path of each operation, with the names of its parameters, by the operation's full name."""
    return {
        f"{operation['x-openapi-router-controller']}.{operation['operationId']}": path
        for path, operations in load_spec()["paths"].items()
        for operation in operations.values()
    }


def shorten_path(path: str) -> str:
    """A path that no operation has, as a log line may show it: in ASCII, and nothing in it long enough to be a secret.

    >>> shorten_path("/convo_turns/turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b/a b")
    '/convo_turns/turn_3b1f0c52.../a%20b'
    """
    parts = path[: MAX_PATH_CHARACTERS + 1].split("/")
    shown = (part if len(part) <= MAX_PATH_PART_CHARACTERS else f"{part[:SHORT_ID_LENGTH]}..." for part in parts)
    shortened = "/".join(quote(part, safe="{}().~+,:;@!$&'*=") for part in shown)
    return shortened if len(path) <= MAX_PATH_CHARACTERS else f"{shortened[:MAX_PATH_CHARACTERS]}..."


def _choose_request_id(scope: Scope) -> str:
    """The client's own id, if it is short and plain enough for a log line; else a new one."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
    return given if _REQUEST_ID.fullmatch(given) else take_random_bytes()[:8].hex()
