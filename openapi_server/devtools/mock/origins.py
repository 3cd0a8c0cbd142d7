"""Cross-origin headers on every answer of the stand-in, as the contract wants them."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.config import LOCAL_ORIGINS

EXPOSED_HEADERS = "X-Streaming-Session-Id, Location, Retry-After, RateLimit, RateLimit-Policy"
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Accept, Content-Type, Idempotency-Key, Last-Event-ID",
}


class MockCors:
    """ASGI middleware: Starlette's own says nothing to callers without `Origin`, the contract something to everyone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin")
        is_ours = origin in LOCAL_ORIGINS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin if is_ours and origin else LOCAL_ORIGINS[0]
                headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                headers["Vary"] = "Origin"
                if is_ours:
                    headers["Access-Control-Allow-Credentials"] = "true"
            await send(message)

        app = Response(status_code=204, headers=PREFLIGHT_HEADERS) if scope["method"] == "OPTIONS" else self._app
        await app(scope, receive, send_with_headers)
