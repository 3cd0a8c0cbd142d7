"""Cross-origin headers: every answer has them, and preflight requests reach no operation."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from openapi_server.http.cors import EXPOSED_HEADERS, CorsMiddleware
from tests.support.asgi import Answer, Arrives, Echoes, Request, Wire, ask

ORIGINS = ("https://zoo.example", "http://localhost:3000")


def add_cors(app: Echoes) -> CorsMiddleware:
    return CorsMiddleware(app, origins=ORIGINS)


def from_origin(origin: str | None, method: str = "POST") -> Request:
    return Request(method, headers=(("Origin", origin),) if origin is not None else ())


def assert_readable_across_origins(answer: Answer) -> None:
    assert answer["access-control-allow-origin"] in ORIGINS
    assert answer["access-control-expose-headers"] == EXPOSED_HEADERS
    assert "Origin" in answer["vary"]


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
    answer = await ask(add_cors(Echoes()), from_origin(origin))

    assert_readable_across_origins(answer)
    assert answer["access-control-allow-origin"] == allowed
    assert answer.all("access-control-allow-credentials") == (["true"] if has_credentials else [])


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 404, 409, 413, 422, 429, 500, 503])
async def test_every_answer_has_the_headers(status: int) -> None:
    """A page cannot even read an error that comes without them."""
    answer = await ask(add_cors(Echoes(status)), from_origin(None))

    assert answer.status == status
    assert_readable_across_origins(answer)


async def test_an_application_cannot_allow_more_origins() -> None:
    """Whatever a framework adds, the answer names one origin, and never `*`."""
    answer = await ask(add_cors(Echoes(200, ("Access-Control-Allow-Origin", "*"))), from_origin("https://evil.example"))

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
    answer = await ask(add_cors(Echoes(200, *[("Vary", value) for value in vary])), Request())

    assert answer["vary"] == expected


async def test_a_preflight_is_answered_here_and_reaches_no_operation() -> None:
    """The answer lists the allowed methods and headers, for ten minutes."""
    app = Echoes()
    request = Request(
        "OPTIONS",
        headers=(
            ("Origin", "http://localhost:3000"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type, last-event-id, idempotency-key"),
        ),
    )
    answer = await ask(add_cors(app), request)

    assert (answer.status, answer.body, app.scopes) == (204, b"", [])
    assert_readable_across_origins(answer)
    assert answer["access-control-allow-origin"] == "http://localhost:3000"
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(answer["access-control-allow-methods"].split(", "))
    allowed = answer["access-control-allow-headers"].lower().split(", ")
    wanted = {"content-type", "authorization", "idempotency-key", "last-event-id", "prefer", "x-device-id"}
    assert wanted <= set(allowed)
    assert answer["access-control-max-age"] == "600"


async def test_a_preflight_of_another_origin_is_answered_with_an_allowed_one() -> None:
    """The browser compares it with the page's origin and refuses the request."""
    answer = await ask(add_cors(Echoes()), from_origin("https://evil.example", "OPTIONS"))

    assert answer.status == 204
    assert answer["access-control-allow-origin"] == "https://zoo.example"
    assert answer.all("access-control-allow-credentials") == []


def test_the_headers_that_clients_need_are_exposed() -> None:
    """Scripts of another origin see only these."""
    assert set(EXPOSED_HEADERS.split(", ")) >= {
        *("X-Streaming-Session-Id", "Location", "Retry-After", "RateLimit", "RateLimit-Policy")
    }


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(kind: str) -> None:
    """Lifespan and websocket scopes are passed on."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": kind}
    await CorsMiddleware(app, origins=ORIGINS)(scope, Arrives(), Wire().send)

    assert seen == [{"type": kind}]
