"""Reports every HTTP request to the metrics, and to the trace that it belongs to."""

from __future__ import annotations

import functools
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.instruments import Instruments
from openapi_server.spec import load_spec

# The operation of a request that is for none.
NO_OPERATION = "none"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TelemetryMiddleware:
    """ASGI middleware: names each request by its operation in the spec, never by its path, which contains ids."""

    def __init__(self, app: ASGIApp, *, instruments: Instruments) -> None:
        self._app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None
        head_s = 0.0
        # Connexion stores the operation here.
        scope.setdefault("extensions", {})

        async def send_and_note(message: Message) -> None:
            nonlocal status, head_s
            if status is None:
                status, head_s = message["status"], time.monotonic()
            await send(message)

        began_s = time.monotonic()
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        with self._instruments.tracer.trace_request(method, Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, send_and_note)
            finally:
                operation = _get_operation(scope)
                wait_s = (head_s or time.monotonic()) - began_s
                self._instruments.metrics.record_request(operation, status, wait_s)
                span.describe(get_route(operation), status)


def _get_operation(scope: Scope) -> str:
    operation_id: str | None = scope["extensions"].get("connexion_routing", {}).get("operation_id")
    return operation_id.rpartition(".")[2] if operation_id else NO_OPERATION


def get_route(operation: str) -> str | None:
    """The path of an operation as the spec writes it; None for a request that is for none.

    >>> get_route("get_convo_turn")
    '/convo_turn/{turnId}'
    """
    return _map_routes().get(operation)


@functools.cache
def _map_routes() -> dict[str, str]:
    return {
        operation["operationId"]: path
        for path, item in load_spec()["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict) and "operationId" in operation
    }
