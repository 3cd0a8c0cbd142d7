"""Connexion's routing and Flask's, beside the operation that `http/operation_table` has found."""

from __future__ import annotations

from collections.abc import Callable

import flask
from connexion.middleware import ConnexionMiddleware
from connexion.middleware.abstract import ROUTING_CONTEXT, SpecMiddleware
from connexion.middleware.request_validation import RequestValidationMiddleware
from connexion.middleware.response_validation import ResponseValidationMiddleware
from connexion.middleware.routing import RoutingMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from connexion.spec import Specification
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from openapi_server.http.authentication import AuthenticationMiddleware
from openapi_server.http.operation_table import get_operation
from openapi_server.http.validation import ValidationMiddleware


class KnownRouteMiddleware(SpecMiddleware):  # type: ignore[misc]  # Connexion has no types
    """ASGI middleware: tells Connexion the operation that `OperationMiddleware` has found.

    Connexion's own tries all routes one after the other, each by a regular expression.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._base_path = ""

    def add_api(self, specification: Specification, base_path: str | None = None, **options: object) -> None:
        """There is one API. Its routes are those of the spec, which `OperationTable` has."""
        self._base_path = specification.base_path if base_path is None else base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = get_operation(scope) if scope["type"] == "http" else None
        if operation is not None:
            routing = {"api_base_path": self._base_path, "operation_id": operation.operation_id}
            scope["extensions"][ROUTING_CONTEXT] = routing
        await self._app(scope, receive, send)


def list_connexion_middleware(*, validate_responses: bool) -> list[type]:
    """Connexion's middleware from the outside in, with ours in place of some, and without what only passes requests on.

    `ApiDocsMiddleware` serves the description and its UI.
    """
    ours: dict[type, tuple[type, ...]] = {
        SwaggerUIMiddleware: (),
        RoutingMiddleware: (KnownRouteMiddleware,),
        # Behind Connexion's security, which calls `BearerTokenHandler`.
        RequestValidationMiddleware: (AuthenticationMiddleware, ValidationMiddleware),
    }
    if not validate_responses:
        ours[ResponseValidationMiddleware] = ()
    return [each for one in ConnexionMiddleware.default_middlewares for each in ours.get(one, (one,))]


class FlaskRoutes:
    """Which function Flask would call for a request, by its own routing."""

    def __init__(self, app: flask.Flask) -> None:
        self._app = app
        self._adapter: MapAdapter | None = None

    def find_function(self, method: str, path: str) -> Callable[..., object] | None:
        """The function of the spec's operation; None when Flask would answer with an error or a redirect.

        Raises RuntimeError for hooks, which would not be called.
        """
        if self._adapter is None:
            self._require_no_hooks()
            self._adapter = self._app.url_map.bind("")
        try:
            endpoint, _ = self._adapter.match(path, method)
        except HTTPException:
            return None
        # Connexion wraps it.
        function: Callable[..., object] | None = getattr(self._app.view_functions[endpoint], "__wrapped__", None)
        return function

    def _require_no_hooks(self) -> None:
        app = self._app
        hooks = (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs)
        if any(hooks) or app.url_value_preprocessors or app.teardown_appcontext_funcs:
            raise RuntimeError(
                "Flask's hooks are not called for handlers on the event loop: add a middleware in app.py"
            )
