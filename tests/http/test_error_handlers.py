"""Exceptions that nobody handled, behind the middleware that every answer passes."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from openapi_server.http.access_log import AccessLogMiddleware
from openapi_server.http.cors import CorsMiddleware
from openapi_server.http.error_handlers import UnexpectedErrorMiddleware
from tests.support.asgi import Arrives, Raises, Request, Wire, ask

ORIGIN = "http://localhost:3000"
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def add_middleware(app: ASGIApp) -> ASGIApp:
    """The application behind the three outermost middlewares, in the order of `create_app`."""
    return AccessLogMiddleware(CorsMiddleware(UnexpectedErrorMiddleware(app), origins=(ORIGIN,)))


async def test_a_crash_before_the_first_byte_is_a_500_in_our_words() -> None:
    """A complete problem with every header, and without the exception's text."""
    with capture_logs() as lines:
        answer = await ask(
            add_middleware(Raises(OSError("postgres://admin:hunter2@db"))), Request(headers=(("Origin", ORIGIN),))
        )

    assert (answer.status, answer.problem["code"], answer.is_whole) == (500, "internal_error", True)
    assert answer["access-control-allow-origin"] == ORIGIN
    assert answer["vary"] == "Origin"
    assert answer["x-request-id"]
    assert answer["access-control-allow-credentials"] == "true"
    assert b"hunter2" not in answer.body
    assert b"OSError" not in answer.body
    assert [line["event"] for line in lines] == ["unexpected_error", "request"]
    assert lines[-1]["status"] == 500


async def test_a_crash_after_the_first_byte_is_passed_on() -> None:
    """The status is out: only a broken connection tells the client that the answer is not whole."""
    wire = Wire()
    part: Message = {"type": "http.response.body", "body": b"Ro", "more_body": True}
    with capture_logs() as lines, pytest.raises(OSError, match="away"):
        await add_middleware(Raises(OSError("away"), START, part))(Request().scope, Arrives(), wire.send)

    assert (wire.answer.status, wire.answer.body, wire.answer.is_whole) == (200, b"Ro", False)
    assert [line["event"] for line in lines] == ["unexpected_error", "request"]


async def test_a_request_that_a_shutdown_cuts_short_is_a_503() -> None:
    """uvicorn cancels it, and would answer with a plain 500."""
    started = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await asyncio.Event().wait()

    wire = Wire()
    request = asyncio.ensure_future(add_middleware(app)(Request().scope, Arrives(), wire.send))
    await asyncio.wait_for(started.wait(), 10)
    request.cancel()
    await asyncio.wait_for(request, 10)

    assert (wire.answer.status, wire.answer.problem["code"], wire.answer.is_whole) == (503, "draining", True)
    assert wire.answer["retry-after"] == "5"


async def test_a_cancelled_answer_that_has_begun_is_not_completed() -> None:
    wire = Wire()
    with pytest.raises(asyncio.CancelledError):
        await add_middleware(Raises(asyncio.CancelledError(), START))(Request().scope, Arrives(), wire.send)

    assert not wire.answer.is_whole
