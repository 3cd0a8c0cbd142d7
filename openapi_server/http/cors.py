"""Cross-origin resource sharing (the CORS protocol of the WHATWG Fetch standard).

Not Starlette's CORS middleware: it adds nothing for requests without `Origin`. Here every answer has the headers, so
that a cache never keeps one without them.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXPOSED_HEADERS = (
    "X-Streaming-Session-Id, Location, Retry-After, RateLimit, RateLimit-Policy, ETag, X-Request-Id, X-Session-Token"
)
ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer, "
    "X-Device-ID, X-Request-Id, X-Session-Id, X-Session-Token"
)
PREFLIGHT_MAX_AGE_S = 600


class CorsMiddleware:
    """ASGI middleware: adds the CORS headers to every answer, errors included, and answers preflight requests.

    `origins` are the allowed origins. Requests of another origin are answered with the first of them, so the browser
    refuses to show the answer to the page.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = tuple(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cors_headers = self._make_headers(Headers(scope=scope).get("origin"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in cors_headers.items():
                    headers[name] = value
                headers["Vary"] = _add_origin(headers.getlist("vary"))
            await send(message)

        # Every OPTIONS request counts as a preflight and reaches no operation.
        app = _make_preflight_response() if scope["method"] == "OPTIONS" else self._app
        await app(scope, receive, send_with_headers)

    def _make_headers(self, origin: str | None) -> dict[str, str]:
        is_allowed = origin in self._origins
        headers = {
            "Access-Control-Allow-Origin": origin if origin and is_allowed else self._origins[0],
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
        }
        return headers | ({"Access-Control-Allow-Credentials": "true"} if is_allowed else {})


def _add_origin(vary: Sequence[str]) -> str:
    """The value of `Vary` with `Origin` in it, from however many `Vary` headers the answer has."""
    names = [name.strip() for value in vary for name in value.split(",")]
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
