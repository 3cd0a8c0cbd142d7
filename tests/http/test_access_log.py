"""The access log: request ids, and one log line for each request."""

from __future__ import annotations

import asyncio
import re

import pytest
import structlog
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from openapi_server.http.access_log import AccessLogMiddleware
from tests.support.asgi import Arrives, Echoes, Raises, Request, Wire, ask


@pytest.mark.parametrize("given", ["abc", "A-b_9", "x" * 64])
async def test_a_plain_request_id_of_the_callers_own_is_kept(given: str) -> None:
    """So that a caller finds its request in our log."""
    answer = await ask(AccessLogMiddleware(Echoes()), Request(headers=(("X-Request-Id", given),)))

    assert answer["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "ä", "a\x1b[31m", "a=1", "abc\n"])
async def test_any_other_request_id_is_replaced(given: str) -> None:
    """It stands in a log and in a header: nothing that could forge a line of either."""
    answer = await ask(AccessLogMiddleware(Echoes()), Request(headers=(("X-Request-Id", given),)))

    assert re.fullmatch(r"[0-9a-f]{16}", answer["x-request-id"])


async def test_requests_without_an_id_get_different_ones() -> None:
    """An id that two requests share tells nothing."""
    ids = {(await ask(AccessLogMiddleware(Echoes()), Request()))["x-request-id"] for _ in range(50)}

    assert len(ids) == 50


class RecordsLogContext(Echoes):
    """An application that notes the context in which its log lines would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.context: dict[str, object] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.context = structlog.contextvars.get_contextvars()
        await super().__call__(scope, receive, send)


async def test_log_lines_of_a_request_carry_its_id_and_later_ones_do_not() -> None:
    """One search finds all that a request did."""
    app = RecordsLogContext()
    answer = await ask(AccessLogMiddleware(app), Request())

    assert app.context == {"request_id": answer["x-request-id"]}
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_cancelled_request_is_no_error() -> None:
    """The client left or the server ends: there is no answer to send, and nothing to be alarmed about."""
    wire = Wire()
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await AccessLogMiddleware(Raises(asyncio.CancelledError()))(Request().scope, Arrives(), wire.send)

    assert wire.sent == []
    assert [(line["event"], line["log_level"]) for line in lines] == [("request", "info")]


class Routed(Echoes):
    """An application that says which operation it was, as Connexion does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["connexion_routing"] = {"operation_id": "openapi_server.impl.convo.get_convo_turn"}
        await super().__call__(scope, receive, send)


async def test_each_request_is_one_line_that_tells_no_ids() -> None:
    """A turn's id is a key to the turn: the log has the path of the spec, never that of the request."""
    with capture_logs() as lines:
        await ask(
            AccessLogMiddleware(Routed(404)), Request("GET", path="/convo_turn/turn_secret", query=b"after=secret")
        )

    (line,) = lines
    assert (line["event"], line["method"], line["operation"], line["status"]) == (
        "request",
        "GET",
        "get_convo_turn",
        404,
    )
    assert line["path"] == "/convo_turn/{turnId}"
    assert line["duration_ms"] >= 0
    assert "secret" not in repr(line)


async def test_a_request_that_no_operation_took_is_logged_too() -> None:
    """A long unknown method is cut in the log line."""
    with capture_logs() as lines:
        await ask(AccessLogMiddleware(Echoes(405)), Request("BREW" * 100))

    assert (lines[0]["operation"], lines[0]["method"]) == ("-", "BREW" * 4)


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/animals", "/animals"),
        ("/animal_list/", "/animal_list/"),
        ("//health", "//health"),
        ("/a b/ä", "/a%20b/%C3%A4"),
        ('/a"b\\', "/a%22b%5C"),
        ("/\x1b[31m\nlevel=error", "/%1B%5B31m%0Alevel=error"),
        ("/convo_turns/turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b", "/convo_turns/turn_3b1f0c52..."),
        ("/reset/eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl/now", "/reset/eyJhbGciOiJIU.../now"),
        ("/x" * 500, "/x" * 60 + "..."),
        ("", ""),
    ],
)
async def test_the_path_that_was_not_found_is_logged(path: str, logged: str) -> None:
    """Whoever set up a client sees what it asks for. Escaped and bounded, and nothing in it may be an id or a token."""
    with capture_logs() as lines:
        await ask(AccessLogMiddleware(Echoes(404)), Request("GET", path=path, query=b"session_id=secret"))

    (line,) = lines
    assert (line["path"], line["operation"]) == (logged, "-")
    assert "secret" not in repr(line)
