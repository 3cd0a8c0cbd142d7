"""What all middlewares have in common: they leave alone what is not HTTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.http.access_log import AccessLogMiddleware
from openapi_server.http.conditional_requests import ConditionalGetMiddleware
from openapi_server.http.error_handlers import UnexpectedErrorMiddleware
from tests.support.asgi import Arrives, Wire


@pytest.mark.parametrize("middleware", [AccessLogMiddleware, ConditionalGetMiddleware, UnexpectedErrorMiddleware])
@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(middleware: Callable[[ASGIApp], ASGIApp], kind: str) -> None:
    """Lifespan and websocket scopes are passed on."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    await middleware(app)({"type": kind}, Arrives(), Wire().send)

    assert seen == [{"type": kind}]
