"""The application: `openapi.yaml` in front, Flask behind, and what stands between them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial

from connexion import FlaskApp
from connexion.middleware import MiddlewarePosition

from openapi_server.http.async_handlers import AsyncHandlerMiddleware
from openapi_server.http.authentication import AuthenticationMiddleware, BearerTokenHandler
from openapi_server.http.concurrency_limit import ConcurrencyLimitMiddleware
from openapi_server.http.cors import Edge
from openapi_server.http.problems import add_error_handlers
from openapi_server.http.request_limits import RequestLimitsMiddleware
from openapi_server.http.services import Services
from openapi_server.http.validation import VALIDATOR_MAP
from openapi_server.spec import load_spec


def create_app(services: Services) -> FlaskApp:
    """The ASGI application. An operation of the spec without a function in `impl/` raises before the first request.

    From the outside in: edge, guard, admission, Connexion's security, the gate, its validation, the bridge, and Flask.
    """
    settings = services.settings
    app = FlaskApp(
        "openapi_server",
        pythonic_params=True,
        validator_map=VALIDATOR_MAP,
        security_map={"bearer": partial(BearerTokenHandler, services.accounts)},
    )
    app.add_middleware(Edge, position=MiddlewarePosition.BEFORE_EXCEPTION, origins=settings.cors_origins)
    app.add_middleware(
        RequestLimitsMiddleware,
        position=MiddlewarePosition.BEFORE_EXCEPTION,
        max_body_bytes=settings.max_body_bytes,
        request_timeout_s=settings.request_timeout_s,
    )
    app.add_middleware(
        ConcurrencyLimitMiddleware, position=MiddlewarePosition.BEFORE_EXCEPTION, max_concurrent=settings.flask_threads
    )
    app.add_middleware(AuthenticationMiddleware, position=MiddlewarePosition.BEFORE_VALIDATION)
    app.add_middleware(AsyncHandlerMiddleware, position=MiddlewarePosition.BEFORE_CONTEXT, services=services)
    app.add_api(deepcopy(load_spec()), validate_responses=settings.validate_responses)
    add_error_handlers(app)
    # a2wsgi's default of 10 threads cannot be set through Connexion. One more than there are places, for those who do
    # not queue for one.
    threads = ThreadPoolExecutor(settings.flask_threads + 1, thread_name_prefix="flask")
    app._middleware_app.asgi_app.executor = threads
    return app
