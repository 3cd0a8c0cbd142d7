"""The ASGI application: Connexion routes by `openapi.yaml` to the handlers in `impl/`, and middleware around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

from connexion import FlaskApp
from connexion.middleware import MiddlewarePosition
from connexion.spec import OpenAPISpecification

from openapi_server.http.access_log import AccessLogMiddleware
from openapi_server.http.api_docs import ApiDocsMiddleware, list_served_paths
from openapi_server.http.arrival_order import ArrivalOrderMiddleware
from openapi_server.http.async_handlers import AsyncHandlerMiddleware
from openapi_server.http.authentication import BearerTokenHandler
from openapi_server.http.concurrency_limit import ConcurrencyLimitMiddleware
from openapi_server.http.conditional_requests import ConditionalGetMiddleware
from openapi_server.http.cors import CorsMiddleware
from openapi_server.http.error_handlers import UnexpectedErrorMiddleware, add_error_handlers
from openapi_server.http.operation_table import OperationMiddleware, load_operation_table
from openapi_server.http.proxies import TrustedProxiesMiddleware
from openapi_server.http.rate_limits import RateLimitMiddleware
from openapi_server.http.request_limits import RequestLimitsMiddleware
from openapi_server.http.routing import FlaskRoutes, list_connexion_middleware
from openapi_server.http.security_headers import SecurityHeadersMiddleware
from openapi_server.http.services import Services
from openapi_server.http.telemetry import TelemetryMiddleware
from openapi_server.http.validation import StrictURIParser
from openapi_server.spec import load_complete_spec, load_strict_spec

FIRST = MiddlewarePosition.BEFORE_EXCEPTION


def create_app(services: Services) -> FlaskApp:
    """The ASGI application. A spec operation without a function in `impl/` raises before the first request."""
    settings = services.settings
    app = FlaskApp(
        "openapi_server",
        middlewares=list_connexion_middleware(validate_responses=settings.validate_responses),
        pythonic_params=True,
        uri_parser_class=StrictURIParser,
        security_map={"bearer": partial(BearerTokenHandler, services.accounts)},
    )
    is_production = settings.environment == "production"
    limits = {"max_body_bytes": settings.max_body_bytes, "request_timeout_s": settings.request_timeout_s}
    operations = load_operation_table(list_served_paths(has_ui=settings.has_api_docs))
    # The middleware from the outside in.
    app.add_middleware(TrustedProxiesMiddleware, FIRST, trusted=settings.trusted_proxies, root_path=settings.root_path)
    app.add_middleware(AccessLogMiddleware, FIRST)
    app.add_middleware(TelemetryMiddleware, FIRST, instruments=services.instruments, table=operations)
    app.add_middleware(
        SecurityHeadersMiddleware,
        FIRST,
        frame_ancestors=settings.frame_ancestors,
        is_https_only=is_production and settings.cookie_secure != "never",
    )
    app.add_middleware(CorsMiddleware, FIRST, origins=settings.cors_origins, more_headers=settings.cors_headers)
    app.add_middleware(ConditionalGetMiddleware, FIRST)
    app.add_middleware(UnexpectedErrorMiddleware, FIRST)
    app.add_middleware(RateLimitMiddleware, FIRST, services=services)
    app.add_middleware(RequestLimitsMiddleware, FIRST, **limits)
    app.add_middleware(OperationMiddleware, FIRST, table=operations)
    app.add_middleware(ApiDocsMiddleware, FIRST, has_ui=settings.has_api_docs)
    app.add_middleware(ArrivalOrderMiddleware, FIRST, pending=services.pending_turns)
    app.add_middleware(
        ConcurrencyLimitMiddleware,
        FIRST,
        max_concurrent=settings.requests_per_round,
        waiting=services.waiting_requests,
        pending=services.pending_turns,
    )
    # Here those of `list_connexion_middleware`: exceptions, routing, authentication and validation.
    routes = FlaskRoutes(app.app)
    app.add_middleware(AsyncHandlerMiddleware, MiddlewarePosition.BEFORE_CONTEXT, services=services, routes=routes)
    spec = deepcopy(load_strict_spec() if settings.validate_responses else load_complete_spec())
    with _trust_description():
        app.add_api(spec, validate_responses=settings.validate_responses)
    add_error_handlers(app)
    return app


@contextmanager
def _trust_description() -> Iterator[None]:
    """Connexion does not hold the description against the schema of OpenAPI: that takes a tenth of each start.

    The description comes with the server, and is the same at every start. `tests/test_spec.py` holds it against that
    schema, in both forms.
    """
    OpenAPISpecification._validate_spec = classmethod(lambda cls, spec: None)
    try:
        yield
    finally:
        # The method of the class above it is there again.
        del OpenAPISpecification._validate_spec
