"""Cross-origin resource sharing (the CORS protocol of the WHATWG Fetch standard).

Not Starlette's CORS middleware: it adds nothing for requests without `Origin`. Here every answer has the headers, so
that a cache never keeps one without them.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import linear_regex

EXPOSED_HEADERS = (
    "X-Streaming-Session-Id, Location, Retry-After, RateLimit, RateLimit-Policy, ETag, X-Request-Id, X-Session-Id, "
    "X-Session-Token"
)
ALLOWED_HEADERS = (
    "Accept, Authorization, Cache-Control, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, "
    "Pragma, Prefer, X-Correlation-Id, X-Device-ID, X-Request-Id, X-Requested-With, X-Session-Id, X-Session-Token, "
    "X-User-Id, b3, baggage, sentry-trace, traceparent, tracestate"
)
# What generated clients tell about themselves, and tracing libraries about a request, in headers of many names.
_CLIENT_HEADER = linear_regex.compile(r"x-(stainless|b3|datadog)-[a-z0-9-]{1,40}")
PREFLIGHT_MAX_AGE_S = 600


class CorsMiddleware:
    """ASGI middleware: adds the CORS headers to every answer, errors included, and completes preflight answers.

    `origins` are the allowed origins. Requests of another origin are answered with the first of them, so the browser
    refuses to show the answer to the page. `more_headers` are allowed beside `ALLOWED_HEADERS`. The application answers
    `OPTIONS`; its `Allow` lists the methods.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], more_headers: Sequence[str] = ()) -> None:
        self._app = app
        self._origins = tuple(origins)
        self._allowed_headers = ", ".join([ALLOWED_HEADERS, *more_headers])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Headers(scope=scope)
        cors_headers = self._make_headers(request.get("origin"))
        is_preflight = scope["method"] == "OPTIONS"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in cors_headers.items():
                    headers[name] = value
                vary = _add_name(headers.getlist("vary"), "Origin")
                if is_preflight and "allow" in headers:
                    headers["Access-Control-Allow-Methods"] = headers["allow"]
                    headers["Access-Control-Allow-Headers"] = self._allow_headers(request)
                    headers["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE_S)
                    vary = _add_name([vary], "Access-Control-Request-Headers")
                headers["Vary"] = vary
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _make_headers(self, origin: str | None) -> dict[str, str]:
        is_allowed = origin in self._origins
        if not self._origins:
            return {}
        headers = {
            "Access-Control-Allow-Origin": origin if origin and is_allowed else self._origins[0],
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
        }
        return headers | ({"Access-Control-Allow-Credentials": "true"} if is_allowed else {})

    def _allow_headers(self, request: Headers) -> str:
        """The value of `Access-Control-Allow-Headers`. With credentials `*` would not be a wildcard."""
        asked = (name.strip().lower() for name in request.get("access-control-request-headers", "").split(",")[:50])
        return ", ".join([self._allowed_headers, *(name for name in asked if _CLIENT_HEADER.fullmatch(name))])


def _add_name(vary: Sequence[str], name: str) -> str:
    """The value of `Vary` with the header's name in it, from however many `Vary` headers the answer has."""
    names = [given.strip() for value in vary for given in value.split(",")]
    return ", ".join(names if name.lower() in map(str.lower, names) else [*names, name])
