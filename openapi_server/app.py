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
from openapi_server.http.addresses import AddressMiddleware, load_address_table
from openapi_server.http.api_docs import ApiDocsMiddleware, list_documents
from openapi_server.http.arrival_order import ArrivalOrderMiddleware
from openapi_server.http.async_handlers import AsyncHandlerMiddleware, only_binds
from openapi_server.http.authentication import AuthenticationMiddleware, BearerTokenHandler
from openapi_server.http.concurrency_limit import ConcurrencyLimitMiddleware
from openapi_server.http.conditional_requests import ConditionalGetMiddleware
from openapi_server.http.cors import CorsMiddleware
from openapi_server.http.flask_adapter import FlaskAdapter, ValidatedRequest
from openapi_server.http.problems import UnexpectedErrorMiddleware, add_error_handlers
from openapi_server.http.proxies import TrustedProxiesMiddleware
from openapi_server.http.rate_limits import RateLimitMiddleware
from openapi_server.http.request_limits import RequestLimitsMiddleware
from openapi_server.http.routing import list_connexion_middleware
from openapi_server.http.security_headers import SecurityHeadersMiddleware
from openapi_server.http.services import Services
from openapi_server.http.telemetry import TelemetryMiddleware
from openapi_server.http.validation import VALIDATOR_MAP, StrictURIParser
from openapi_server.spec import load_complete_spec, load_strict_spec

FIRST = MiddlewarePosition.BEFORE_EXCEPTION


def create_app(services: Services) -> FlaskApp:
    """The ASGI application. A spec operation without a function in `impl/` raises before the first request."""
    settings = services.settings
    app = FlaskApp(
        "openapi_server",
        middlewares=list_connexion_middleware(validate_responses=settings.validate_responses),
        pythonic_params=True,
        validator_map=VALIDATOR_MAP,
        uri_parser_class=StrictURIParser,
        security_map={"bearer": partial(BearerTokenHandler, services.accounts)},
    )
    is_production = settings.environment == "production"
    limits = {"max_body_bytes": settings.max_body_bytes, "request_timeout_s": settings.request_timeout_s}
    addresses = load_address_table(list_documents(has_ui=settings.has_api_docs))
    # The middleware from the outside in.
    app.add_middleware(TrustedProxiesMiddleware, FIRST, trusted=settings.trusted_proxies, root_path=settings.root_path)
    app.add_middleware(AccessLogMiddleware, FIRST)
    app.add_middleware(TelemetryMiddleware, FIRST, instruments=services.instruments, table=addresses)
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
    app.add_middleware(AddressMiddleware, FIRST, table=addresses)
    app.add_middleware(ApiDocsMiddleware, FIRST, has_ui=settings.has_api_docs)
    app.add_middleware(ArrivalOrderMiddleware, FIRST, pending=services.pending_turns)
    app.add_middleware(
        ConcurrencyLimitMiddleware,
        FIRST,
        max_concurrent=settings.flask_threads,
        waiting=services.waiting_requests,
        pending=services.pending_turns,
    )
    # Here Connexion's own: exceptions, routing, and security, which calls `BearerTokenHandler`.
    app.add_middleware(AuthenticationMiddleware, MiddlewarePosition.BEFORE_VALIDATION)
    # Here Connexion's validation, with `VALIDATOR_MAP`.
    app.add_middleware(AsyncHandlerMiddleware, MiddlewarePosition.BEFORE_CONTEXT, services=services)
    spec = deepcopy(load_strict_spec() if settings.validate_responses else load_complete_spec())
    with _trust_description():
        app.add_api(spec, validate_responses=settings.validate_responses)
    add_error_handlers(app)
    # Connexion has no option for another adapter than its own.
    app.app.request_class = ValidatedRequest
    inner = app._middleware_app
    inner.asgi_app = FlaskAdapter(inner.asgi_app, inner.asgi_app.app, only_binds=only_binds)
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
