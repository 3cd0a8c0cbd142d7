"""Headers that tell browsers and caches what an answer may be used for: on every answer, errors and streams included.

`Cache-Control` is the decision of the operation, `x-cache-control` in `openapi.yaml`, unless the answer has its own.
`Vary` names `Accept` where the operation has several media types.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.operation_table import NO_STORE, get_operation
from openapi_server.http.raw_headers import RawHeader, encode_header, get_values, set_headers

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
        headers = {
            "X-Content-Type-Options": "nosniff",
            # Addresses of this server may hold ids.
            "Referrer-Policy": "no-referrer",
            # For `no-cors` requests only: pages of the allowed origins use CORS.
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if not frame_ancestors:
            # For browsers without `frame-ancestors`; it cannot name other origins.
            headers["X-Frame-Options"] = "DENY"
        if is_https_only:
            headers["Strict-Transport-Security"] = HSTS
        self._headers = [encode_header(name, value) for name, value in headers.items()]
        self._policy = self._make_policy(NOTHING_LOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Shared with the scopes that the inner middleware makes of this one.
        scope.setdefault("extensions", {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = headers = list(message["headers"])
                self._add_headers(headers, scope)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _add_headers(self, headers: list[RawHeader], scope: Scope) -> None:
        policies = get_values(headers, b"content-security-policy")
        set_headers(headers, [*self._headers, self._make_policy(policies[0]) if policies else self._policy])
        operation = get_operation(scope)
        if operation is not None and operation.has_several_types:
            set_headers(headers, [encode_header("Vary", ", ".join([*get_values(headers, b"vary"), "Accept"]))])
        if all(name != b"cache-control" for name, _ in headers):
            headers.append(encode_header("Cache-Control", operation.cache_control if operation else NO_STORE))

    def _make_policy(self, policy: str) -> RawHeader:
        return encode_header("Content-Security-Policy", f"{policy}; {self._frame_rule}")
