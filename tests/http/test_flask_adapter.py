"""Flask on the event loop: where each request is worked on, and that its answer is Flask's."""

from __future__ import annotations

import threading
from collections.abc import Callable

import flask
import pytest
from a2wsgi import WSGIMiddleware
from starlette.types import Scope

from openapi_server.http.flask_adapter import FlaskAdapter, ValidatedRequest
from openapi_server.http.validation import StrictBodyValidator, get_validated_body
from tests.support.asgi import Arrives, Request, Wire

LOOP, THREAD = "the event loop", "a thread"


def name_thread() -> str:
    return LOOP if threading.current_thread() is threading.main_thread() else THREAD


def make_adapter(
    view: Callable[[], flask.typing.ResponseReturnValue],
    *,
    only_binds: bool,
    request_class: type[flask.Request] = flask.Request,
) -> FlaskAdapter:
    app = flask.Flask(__name__)
    app.request_class = request_class
    app.add_url_rule("/", view_func=view, methods=["GET", "POST"])
    app.config["PROPAGATE_EXCEPTIONS"] = True

    def decide(scope: Scope) -> bool:
        return only_binds

    return FlaskAdapter(WSGIMiddleware(app.wsgi_app), app.wsgi_app, only_binds=decide)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("only_binds", "size", "place"),
    [
        (True, 0, LOOP),
        (True, 200_000, LOOP),
        (False, 0, THREAD),
        (False, 200_000, THREAD),
    ],
)
async def test_only_what_waits_for_nothing_is_on_the_event_loop(only_binds: bool, size: int, place: str) -> None:
    """Wherever it was, the answer is the same, with the body that was sent."""

    def answer() -> flask.Response:
        headers = [("X-Place", name_thread()), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        return flask.Response(flask.request.get_data(), 201, headers, mimetype="text/plain")

    body = b"x" * size
    half = size // 2
    wire = Wire()
    scope = {**Request("POST", "/").scope, "headers": [(b"content-length", str(size).encode())]}
    await make_adapter(answer, only_binds=only_binds)(scope, Arrives(body[:half], body[half:]), wire.send)

    assert (wire.answer.status, wire.answer["x-place"], wire.answer.body) == (201, place, body)
    assert wire.answer.all("set-cookie") == ["a=1", "b=2"]
    assert wire.answer.is_whole


@pytest.mark.parametrize("only_binds", [True, False])
async def test_an_exception_leaves_flask(only_binds: bool) -> None:
    """Connexion makes the answer of it."""

    def fail() -> flask.Response:
        raise LookupError("nothing here")

    wire = Wire()
    with pytest.raises(LookupError, match="nothing here"):
        await make_adapter(fail, only_binds=only_binds)(Request("GET", "/").scope, Arrives(), wire.send)

    assert wire.answer.status is None


@pytest.mark.parametrize("only_binds", [True, False])
async def test_nothing_of_a_request_stays_in_its_task(only_binds: bool) -> None:
    """The handler, which runs in the same task, must not find Flask's request by accident."""

    def answer() -> str:
        return flask.request.method

    wire = Wire()
    await make_adapter(answer, only_binds=only_binds)(Request("GET", "/").scope, Arrives(), wire.send)

    assert wire.answer.body == b"GET"
    assert not flask.has_request_context()
    assert not flask.has_app_context()


async def test_a_function_gets_the_body_that_the_validators_have_read() -> None:
    """The value itself, without what is ignored in it: nothing reads the bytes a second time, and otherwise."""
    schema = {"type": "object", "properties": {"message": {"type": "string"}}}
    options = {"required": True, "nullable": False, "encoding": "utf-8", "strict_validation": False}
    body = b'{"message": "Hello!", "other": 1}'
    headers = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    sent: Scope = {**Request("POST", "/", headers=headers).scope, "extensions": {}}
    receive, scope = await StrictBodyValidator(schema=schema, **options).wrap_receive(Arrives(body), scope=sent)
    read: list[object] = []

    def answer() -> str:
        read.extend([flask.request.get_json(), len(flask.request.files)])
        return ""

    app = make_adapter(answer, only_binds=True, request_class=ValidatedRequest)
    await app(scope, receive, Wire().send)

    assert read == [{"message": "Hello!"}, 0]
    assert read[0] is get_validated_body(scope)
