"""Headers that tell browsers and caches what an answer may be used for: on every answer, errors and streams included.

`Cache-Control` is the decision of the operation, `x-cache-control` in `openapi.yaml`, unless the answer has its own.
`Vary` names `Accept` where the operation has several media types.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.addresses import NO_STORE, get_operation

NOTHING_LOADS = "default-src 'none'; base-uri 'none'; form-action 'none'"
HSTS = "max-age=31536000"


class SecurityHeadersMiddleware:
    """ASGI middleware: adds the headers. A page of ours brings its own `Content-Security-Policy`, without frame rules.

    `frame_ancestors` are the origins that may show the server's pages in a frame, or `'self'`; none: nobody may.
    `is_https_only`: browsers are told to use HTTPS only (RFC 6797).
    """

    def __init__(self, app: ASGIApp, *, frame_ancestors: Sequence[str], is_https_only: bool) -> None:
        self._app = app
        self._frame_rule = f"frame-ancestors {' '.join(frame_ancestors) or repr('none')}"
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            # Addresses of this server may hold ids.
            "Referrer-Policy": "no-referrer",
            # For `no-cors` requests only: pages of the allowed origins use CORS.
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if not frame_ancestors:
            # For browsers without `frame-ancestors`; it cannot name other origins.
            self._headers["X-Frame-Options"] = "DENY"
        if is_https_only:
            self._headers["Strict-Transport-Security"] = HSTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Shared with the scopes that the inner middleware makes of this one.
        scope.setdefault("extensions", {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _add_headers(self, headers: MutableHeaders, scope: Scope) -> None:
        for name, value in self._headers.items():
            headers[name] = value
        policy = headers.get("content-security-policy", NOTHING_LOADS)
        headers["Content-Security-Policy"] = f"{policy}; {self._frame_rule}"
        operation = get_operation(scope)
        if operation is not None and operation.has_several_types:
            headers.add_vary_header("Accept")
        if "cache-control" not in headers:
            headers["Cache-Control"] = operation.cache_control if operation else NO_STORE
