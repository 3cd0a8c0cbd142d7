"""Flask's routing, and what binds the arguments of handlers: beside what Connexion would do with the same request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import flask
import pytest
from connexion import FlaskApp
from connexion.decorators.parameter import pythonic
from connexion.middleware import MiddlewarePosition
from connexion.resolver import Resolver
from connexion.spec import Specification
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.http.async_handlers import _load_operation
from openapi_server.http.error_handlers import add_error_handlers
from openapi_server.http.operation_table import OperationMiddleware, OperationTable
from openapi_server.http.routing import FlaskRoutes, list_connexion_middleware
from openapi_server.http.validation import StrictURIParser, get_arguments
from openapi_server.spec import load_complete_spec
from tests.support.asgi import Arrives, Request, ask

HOOKS: dict[str, Callable[[flask.Flask], object]] = {
    "before": lambda app: app.before_request(lambda: None),
    "after": lambda app: app.after_request(lambda response: response),
    "teardown": lambda app: app.teardown_request(lambda error: None),
    "end of the context": lambda app: app.teardown_appcontext(lambda error: None),
    "values of the address": lambda app: app.url_value_preprocessor(lambda endpoint, values: None),
}


def make_flask() -> flask.Flask:
    app = flask.Flask(__name__)

    def view() -> str:
        return ""

    def wrapper() -> str:
        return ""

    wrapper.__wrapped__ = view  # type: ignore[attr-defined]  # as Connexion's operations have it
    app.add_url_rule("/lions/<lion_id>", "lion", wrapper, methods=["GET"])
    app.add_url_rule("/lions/", "lions", wrapper, methods=["GET"])
    return app


@pytest.mark.parametrize(
    ("method", "path", "is_found"),
    [
        ("GET", "/lions/1", True),
        ("POST", "/lions/1", False),
        ("GET", "/tigers/1", False),
        ("GET", "/lions", False),
        ("GET", "/lions/1/2", False),
    ],
)
def test_flask_finds_a_function_or_none(method: str, path: str, is_found: bool) -> None:
    """What it would answer with an error or a redirect, it has no function for."""
    app = make_flask()
    function = FlaskRoutes(app).find_function(method, path)

    assert function is (getattr(app.view_functions["lion"], "__wrapped__", "missing") if is_found else None)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_of_flask_is_refused(hook: str) -> None:
    """It would not be called, and whoever relies on it would not be told."""
    app = make_flask()
    HOOKS[hook](app)

    with pytest.raises(RuntimeError, match="hooks are not called"):
        FlaskRoutes(app).find_function("GET", "/lions/1")


def test_every_handler_gets_what_it_needs_of_the_spec() -> None:
    """Each of its arguments is a parameter in path or query, or the body; what has no default is always there."""
    spec = Specification.load(deepcopy(load_complete_spec()))
    paths: dict[str, dict[str, Any]] = load_complete_spec()["paths"]
    for path, method in [(path, method) for path, item in paths.items() for method in item]:
        operation = spec.operation_cls.from_spec(spec, path=path, method=method, resolver=Resolver())
        bound = [each for each in operation.parameters if each["in"] in ("path", "query")]
        offered = {pythonic(each["name"]) for each in bound} | ({"body"} if operation.request_body else set())
        optional = {
            pythonic(each["name"]) for each in bound if not each.get("required") and "default" not in each["schema"]
        }
        loaded = _load_operation(operation.operation_id)
        assert loaded.handler is not None
        given = inspect.signature(loaded.handler).parameters
        needed = {name for name in loaded.arguments if given[name].default is inspect.Parameter.empty}
        assert set(loaded.arguments) <= offered, operation.operation_id
        assert needed <= offered - optional, operation.operation_id


PARAMETERS = [
    {"name": "lionId", "in": "path", "required": True, "schema": {"type": "string"}},
    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 50}},
    {"name": "mode", "in": "query", "schema": {"type": "string", "default": "stream"}},
    {"name": "Cursor", "in": "query", "schema": {"type": "string"}},
    {"name": "id", "in": "query", "schema": {"type": "string"}},
    {"name": "X-Name", "in": "header", "schema": {"type": "string"}},
]
BODY = {"content": {"application/json": {"schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}}}
SPEC: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Lions", "version": "1"},
    "paths": {
        "/lions/{lionId}": {
            "post": {
                "operationId": "tell",
                "x-openapi-router-controller": __name__,
                "parameters": PARAMETERS,
                "requestBody": BODY,
                "responses": {"200": {"description": "Told", "content": {"application/json": {}}}},
            }
        }
    },
}
told: list[dict[str, Any]] = []


def tell(lion_id: str, **rest: object) -> dict[str, object]:
    """What Connexion and Flask bind."""
    told.append({"lion_id": lion_id, **rest})
    return {}


class Listens:
    """ASGI middleware: remembers what was validated, and goes on to Flask."""

    heard: list[dict[str, Any]] = []  # noqa: RUF012  # Connexion makes the instance

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.heard.append(dict(get_arguments(scope)))
        await self._app(scope, receive, send)


@pytest.mark.parametrize("query", [b"", b"limit=7", b"limit=&mode=", b"Cursor=%C3%A9+b&id=3&mode=job", b"id=a%2Fb"])
@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b'{"a": 1, "b": null}', b"{}"])
@pytest.mark.parametrize("path", ["/lions/1", "/lions/Löwe", "/lions/a b"])
async def test_arguments_are_those_that_connexion_would_bind(path: str, body: bytes, query: bytes) -> None:
    """Names, values, types and defaults, of parameters in path and query and of the body."""
    app = FlaskApp(
        "lions",
        middlewares=list_connexion_middleware(validate_responses=False),
        pythonic_params=True,
        uri_parser_class=StrictURIParser,
    )
    app.add_middleware(OperationMiddleware, MiddlewarePosition.BEFORE_EXCEPTION, table=OperationTable(SPEC))
    app.add_middleware(Listens, MiddlewarePosition.BEFORE_CONTEXT)
    app.add_api(SPEC)
    add_error_handlers(app)
    told.clear()
    Listens.heard.clear()
    headers = [("X-Name", "Leo")]
    if body:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    scope = {**Request("POST", path, query, tuple(headers)).scope, "extensions": {}}

    class Prepared(Request):
        @property
        def scope(self) -> Scope:
            return scope

    answer = await ask(app, Prepared(), Arrives(body))

    if b"limit=&" in query:
        assert (answer.status, told) == (400, [])
    else:
        assert answer.status == 200
        assert Listens.heard == told
