"""The edge: what every answer gets, whoever made it and whatever went wrong."""

from __future__ import annotations

import asyncio
import re

import pytest
import structlog
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from openapi_server.http.cors import EXPOSED_HEADERS, Edge
from tests.support.asgi import Answer, Arrives, Echoes, Raises, Request, Wire, ask

OURS = ("https://zoo.example", "http://localhost:3000")
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def edged(app: Echoes | Raises) -> Edge:
    return Edge(app, origins=OURS)


def from_origin(origin: str | None, method: str = "POST") -> Request:
    return Request(method, headers=(("Origin", origin),) if origin is not None else ())


def assert_readable_across_origins(answer: Answer) -> None:
    assert answer["access-control-allow-origin"] in OURS
    assert answer["access-control-expose-headers"] == EXPOSED_HEADERS
    assert "Origin" in answer["vary"]
    assert answer["x-request-id"]


@pytest.mark.parametrize(
    ("origin", "allowed", "has_credentials"),
    [
        ("http://localhost:3000", "http://localhost:3000", True),
        ("https://zoo.example", "https://zoo.example", True),
        ("https://evil.example", "https://zoo.example", False),
        ("https://zoo.example.evil.example", "https://zoo.example", False),
        ("https://ZOO.example", "https://zoo.example", False),
        ("null", "https://zoo.example", False),
        ("*", "https://zoo.example", False),
        ("", "https://zoo.example", False),
        (None, "https://zoo.example", False),
    ],
)
async def test_an_origin_is_echoed_only_when_it_is_on_the_list(
    origin: str | None, allowed: str, has_credentials: bool
) -> None:
    """Strangers read the first allowed origin, which is not theirs; cookies are for the allowed ones only."""
    answer = await ask(edged(Echoes()), from_origin(origin))

    assert_readable_across_origins(answer)
    assert answer["access-control-allow-origin"] == allowed
    assert answer.all("access-control-allow-credentials") == (["true"] if has_credentials else [])


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 404, 409, 413, 422, 429, 500, 503])
async def test_every_answer_has_the_headers(status: int) -> None:
    """A page cannot even read an error that comes without them."""
    answer = await ask(edged(Echoes(status)), from_origin(None))

    assert answer.status == status
    assert_readable_across_origins(answer)


async def test_an_application_cannot_open_the_door_wider() -> None:
    """Whatever a framework adds, the answer names one origin, and never `*`."""
    answer = await ask(edged(Echoes(200, ("Access-Control-Allow-Origin", "*"))), from_origin("https://evil.example"))

    assert answer["access-control-allow-origin"] == "https://zoo.example"


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ([], "Origin"),
        (["Accept"], "Accept, Origin"),
        (["Origin"], "Origin"),
        (["origin"], "origin"),
        (["Origin, Accept"], "Origin, Accept"),
        (["Accept, Cookie"], "Accept, Cookie, Origin"),
        (["Accept", "Cookie"], "Accept, Cookie, Origin"),
        (["X-Original"], "X-Original, Origin"),
    ],
)
async def test_what_else_an_answer_varies_by_is_kept(vary: list[str], expected: str) -> None:
    """A cache that forgets one of them serves the wrong answer to somebody."""
    answer = await ask(edged(Echoes(200, *[("Vary", value) for value in vary])), Request())

    assert answer["vary"] == expected


async def test_a_preflight_is_answered_here_and_reaches_no_operation() -> None:
    """Which methods and headers our pages may use, for ten minutes."""
    app = Echoes()
    request = Request(
        "OPTIONS",
        headers=(
            ("Origin", "http://localhost:3000"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type, last-event-id, idempotency-key"),
        ),
    )
    answer = await ask(edged(app), request)

    assert (answer.status, answer.body, app.scopes) == (204, b"", [])
    assert_readable_across_origins(answer)
    assert answer["access-control-allow-origin"] == "http://localhost:3000"
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(answer["access-control-allow-methods"].split(", "))
    allowed = answer["access-control-allow-headers"].lower().split(", ")
    wanted = {"content-type", "authorization", "idempotency-key", "last-event-id", "prefer", "x-device-id"}
    assert wanted <= set(allowed)
    assert answer["access-control-max-age"] == "600"


async def test_a_strangers_preflight_is_told_another_origin() -> None:
    """The browser compares it with the page's own and stops there."""
    answer = await ask(edged(Echoes()), from_origin("https://evil.example", "OPTIONS"))

    assert answer.status == 204
    assert answer["access-control-allow-origin"] == "https://zoo.example"
    assert answer.all("access-control-allow-credentials") == []


def test_the_headers_that_clients_need_are_exposed() -> None:
    """Scripts of another origin see only these."""
    assert set(EXPOSED_HEADERS.split(", ")) >= {
        *("X-Streaming-Session-Id", "Location", "Retry-After", "RateLimit", "RateLimit-Policy")
    }


@pytest.mark.parametrize("given", ["abc", "A-b_9", "x" * 64])
async def test_a_plain_request_id_of_the_callers_own_is_kept(given: str) -> None:
    """So that a caller finds its request in our log."""
    answer = await ask(edged(Echoes()), Request(headers=(("X-Request-Id", given),)))

    assert answer["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "ä", "a\x1b[31m", "a=1", "abc\n"])
async def test_any_other_request_id_is_replaced(given: str) -> None:
    """It stands in a log and in a header: nothing that could forge a line of either."""
    answer = await ask(edged(Echoes()), Request(headers=(("X-Request-Id", given),)))

    assert re.fullmatch(r"[0-9a-f]{16}", answer["x-request-id"])


async def test_requests_without_an_id_get_different_ones() -> None:
    """An id that two requests share tells nothing."""
    ids = {(await ask(edged(Echoes()), Request()))["x-request-id"] for _ in range(50)}

    assert len(ids) == 50


class Notes(Echoes):
    """An application that notes the context in which its log lines would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.context: dict[str, object] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.context = structlog.contextvars.get_contextvars()
        await super().__call__(scope, receive, send)


async def test_log_lines_of_a_request_carry_its_id_and_later_ones_do_not() -> None:
    """One search finds all that a request did."""
    app = Notes()
    answer = await ask(edged(app), Request())

    assert app.context == {"request_id": answer["x-request-id"]}
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_crash_before_the_first_byte_is_a_500_in_our_words() -> None:
    """A whole problem with every header, and not a word of what was thrown."""
    with capture_logs() as lines:
        answer = await ask(edged(Raises(OSError("postgres://admin:hunter2@db"))), from_origin("http://localhost:3000"))

    assert (answer.status, answer.problem["code"], answer.is_whole) == (500, "internal_error", True)
    assert_readable_across_origins(answer)
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
        await edged(Raises(OSError("away"), START, part))(Request().scope, Arrives(), wire.send)

    assert (wire.answer.status, wire.answer.body, wire.answer.is_whole) == (200, b"Ro", False)
    assert [line["event"] for line in lines] == ["unexpected_error", "request"]


async def test_a_cancelled_request_is_no_error() -> None:
    """The client left or the server ends: there is no answer to send, and nothing to be alarmed about."""
    wire = Wire()
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await edged(Raises(asyncio.CancelledError()))(Request().scope, Arrives(), wire.send)

    assert wire.sent == []
    assert [(line["event"], line["log_level"]) for line in lines] == [("request", "info")]


class Routed(Echoes):
    """An application that says which operation it was, as Connexion does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"]["connexion_routing"] = {"operation_id": "get_convo_turn"}
        await super().__call__(scope, receive, send)


async def test_each_request_is_one_line_that_tells_no_ids() -> None:
    """A turn's id is a key to the turn: the log names the operation, never the path."""
    with capture_logs() as lines:
        await ask(edged(Routed(404)), Request("GET", path="/convo_turn/turn_secret", query=b"after=secret"))

    (line,) = lines
    assert (line["event"], line["method"], line["operation"], line["status"]) == (
        "request",
        "GET",
        "get_convo_turn",
        404,
    )
    assert line["duration_ms"] >= 0
    assert "secret" not in repr(line)


async def test_a_request_that_no_operation_took_is_logged_too() -> None:
    """An unknown method may be as long as it likes; the line is not."""
    with capture_logs() as lines:
        await ask(edged(Echoes(405)), Request("BREW" * 100))

    assert (lines[0]["operation"], lines[0]["method"]) == ("-", "BREW" * 4)


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(kind: str) -> None:
    """The server's own start and end are no requests."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": kind}
    await Edge(app, origins=OURS)(scope, Arrives(), Wire().send)

    assert seen == [{"type": kind}]
