"""Validation: the error messages of the spec, and what is validated on the event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import flask
import pytest
from starlette.types import Scope
from structlog.testing import capture_logs

from openapi_server.http.async_handlers import AsyncHandlerMiddleware
from openapi_server.http.routing import FlaskRoutes
from openapi_server.http.services import Services
from openapi_server.http.validation import MAX_INLINE_BYTES, StrictBodyValidator
from openapi_server.spec import load_spec
from tests.support.asgi import Arrives, Echoes, Leaves, Request, Wire


def iterate_schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the spec that is a schema with a type."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from iterate_schemas(part)


def test_a_description_says_what_a_field_is_and_its_error_message_what_is_valid() -> None:
    """Readers of the reference want the one, callers with an invalid value the other."""
    schemas = list(iterate_schemas(load_spec()))
    messages = [schema["x-error-message"] for schema in schemas if "x-error-message" in schema]

    assert len(messages) > 40
    assert all(message.startswith("must ") for message in messages)
    assert not [schema for schema in schemas if str(schema.get("description", "")).startswith("must ")]


async def test_a_large_body_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is read at once: the way to a thread takes longer than reading it."""
    threads: list[str] = []

    def read(self: StrictBodyValidator, raw: bytes) -> tuple[object, bool]:
        threads.append(threading.current_thread().name)
        return {}, False

    monkeypatch.setattr(StrictBodyValidator, "_read", read)

    validator = StrictBodyValidator({}, required=True)
    for size in (MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1):
        headers = (("Content-Length", str(size)),)
        scope: Scope = {**Request("POST", "/", headers=headers).scope, "extensions": {}}
        await validator.wrap_receive(Arrives(b" " * size), scope=scope)

    assert threads[0] == threading.current_thread().name
    assert threads[1].startswith("worker")


async def test_whoever_reads_the_body_again_reads_what_was_validated() -> None:
    """Without what is ignored in it, with its length, and then the end of the connection; the next body is another."""
    schema = {"type": "object", "properties": {"message": {"type": "string"}}}
    validator = StrictBodyValidator(schema, required=True)
    for body, read in ((b'{"message": "Hello!", "other": 1}', b'{"message": "Hello!"}'), (b'{"message":"a"}', None)):
        headers = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
        sent: Scope = {**Request("POST", "/", headers=headers).scope, "extensions": {}}

        receive, scope = await validator.wrap_receive(Leaves(body[:5], body[5:]), scope=sent)

        again = await receive()
        assert (again["body"], again["more_body"]) == (read or body, False)
        assert dict(scope["headers"])[b"content-length"] == str(len(again["body"])).encode()
        assert (await receive())["type"] == "http.disconnect"


async def test_no_handler_runs_on_what_the_validators_have_not_seen() -> None:
    """Whatever way round them there may be: the request is refused, and the log names the operation."""
    operation_id = "openapi_server.impl.convo.convo_turn"
    request = Request("POST", "/convo_turn").scope
    scope = {**request, "extensions": {"connexion_routing": {"operation_id": operation_id}}}
    wire, inner = Wire(), Echoes(200)
    with capture_logs() as lines:
        routes = FlaskRoutes(flask.Flask(__name__))
        await AsyncHandlerMiddleware(inner, services=cast(Services, None), routes=routes)(scope, Arrives(), wire.send)

    assert (wire.answer.status, wire.answer.problem["code"]) == (400, "invalid_input")
    assert [(line["event"], line["operation"]) for line in lines] == [("request_not_validated", operation_id)]
