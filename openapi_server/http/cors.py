"""Cross-origin resource sharing (the CORS protocol of the WHATWG Fetch standard).

Not Starlette's CORS middleware: it adds nothing for requests without `Origin`. Here every answer has the headers, so
that a cache never keeps one without them.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import linear_regex
from openapi_server.http.raw_headers import RawHeader, encode_header, get_values, set_headers

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
        self._headers = {origin: self._make_headers(origin, is_allowed=True) for origin in origins}
        self._headers_for_others = self._make_headers(origins[0], is_allowed=False) if origins else ()
        self._allowed_headers = ", ".join([ALLOWED_HEADERS, *more_headers])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cors_headers = self._choose_headers(scope)
        is_preflight = scope["method"] == "OPTIONS"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = headers = list(message["headers"])
                set_headers(headers, cors_headers)
                given = get_values(headers, b"vary")
                vary = _add_name(given, "Origin") if given else "Origin"
                allow = get_values(headers, b"allow") if is_preflight else []
                if allow:
                    set_headers(headers, self._make_preflight_headers(allow[0], scope))
                    vary = _add_name([vary], "Access-Control-Request-Headers")
                set_headers(headers, [encode_header("Vary", vary)])
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _choose_headers(self, scope: Scope) -> Sequence[RawHeader]:
        origin = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), "")
        return self._headers.get(origin, self._headers_for_others)

    def _make_headers(self, origin: str, *, is_allowed: bool) -> Sequence[RawHeader]:
        headers = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED_HEADERS}
        if is_allowed:
            headers["Access-Control-Allow-Credentials"] = "true"
        return [encode_header(name, value) for name, value in headers.items()]

    def _make_preflight_headers(self, allow: str, scope: Scope) -> Sequence[RawHeader]:
        """With credentials `*` would not be a wildcard."""
        given = next(iter(get_values(scope["headers"], b"access-control-request-headers")), "")
        asked = (name.strip().lower() for name in given.split(",")[:50])
        allowed = ", ".join([self._allowed_headers, *(name for name in asked if _CLIENT_HEADER.fullmatch(name))])
        return [
            encode_header("Access-Control-Allow-Methods", allow),
            encode_header("Access-Control-Allow-Headers", allowed),
            encode_header("Access-Control-Max-Age", str(PREFLIGHT_MAX_AGE_S)),
        ]


def _add_name(vary: Sequence[str], name: str) -> str:
    """The value of `Vary` with the header's name in it, from however many `Vary` headers the answer has."""
    names = [given.strip() for value in vary for given in value.split(",")]
    return ", ".join(names if name.lower() in map(str.lower, names) else [*names, name])
