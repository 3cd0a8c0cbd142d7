"""Reports every HTTP request to the metrics, and to the trace that it belongs to."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.operation_table import OperationTable, get_operation
from openapi_server.instruments import Instruments

# The operation of a request that is for none, and that of a page of the API documentation.
NO_OPERATION, DOCUMENTS = "none", "documents"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TelemetryMiddleware:
    """ASGI middleware: names each request by its operation in the spec, never by its path, which contains ids."""

    def __init__(self, app: ASGIApp, *, instruments: Instruments, table: OperationTable) -> None:
        self._app = app
        self._instruments = instruments
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None
        head_s = 0.0
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
                operation, route = self._name_operation(scope)
                wait_s = (head_s or time.monotonic()) - began_s
                self._instruments.metrics.record_request(operation, status, wait_s)
                span.describe(route, status)

    def _name_operation(self, scope: Scope) -> tuple[str, str | None]:
        """The operation and its path in the spec, also of a request that was refused before its address mattered."""
        address = self._table.find(scope["path"])
        if address is None:
            return NO_OPERATION, None
        operation = get_operation(scope) or address.find_operation(scope["method"])
        if operation is None:
            return NO_OPERATION, address.template
        name = operation.operation_id
        return (DOCUMENTS if name.startswith("/") else name.rpartition(".")[2]), address.template
