"""Connexion's routing, by the operation that `http/addresses` has found: it matches no request a second time."""

from __future__ import annotations

from connexion.middleware import ConnexionMiddleware
from connexion.middleware.abstract import ROUTING_CONTEXT, SpecMiddleware
from connexion.middleware.response_validation import ResponseValidationMiddleware
from connexion.middleware.routing import RoutingMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from connexion.spec import Specification
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.http.addresses import get_operation


class KnownRouteMiddleware(SpecMiddleware):  # type: ignore[misc]  # Connexion has no types
    """ASGI middleware: tells Connexion the operation that `AddressMiddleware` has found.

    Connexion's own tries all routes one after the other, each by a regular expression.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._base_path = ""

    def add_api(self, specification: Specification, base_path: str | None = None, **options: object) -> None:
        """There is one API. Its routes are those of the spec, which `AddressTable` has."""
        self._base_path = specification.base_path if base_path is None else base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = get_operation(scope) if scope["type"] == "http" else None
        if operation is not None:
            routing = {"api_base_path": self._base_path, "operation_id": operation.operation_id}
            scope["extensions"][ROUTING_CONTEXT] = routing
        await self._app(scope, receive, send)


def list_connexion_middleware(*, validate_responses: bool) -> list[type[SpecMiddleware]]:
    """Connexion's middleware from the outside in, with our routing, and without what only passes requests on.

    `ApiDocsMiddleware` serves the description and its UI.
    """
    dropped = {SwaggerUIMiddleware} if validate_responses else {SwaggerUIMiddleware, ResponseValidationMiddleware}
    return [
        KnownRouteMiddleware if middleware is RoutingMiddleware else middleware
        for middleware in ConnexionMiddleware.default_middlewares
        if middleware not in dropped
    ]
