"""Cross-origin headers: every answer has them, and preflight requests reach no operation."""

from __future__ import annotations

from typing import Any

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


def make_preflight(headers: str, origin: str = "http://localhost:3000") -> Request:
    return Request(
        "OPTIONS",
        headers=(
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", headers),
        ),
    )


async def preflight(headers: str = "content-type", origin: str = "http://localhost:3000", **options: Any) -> Answer:
    """The answer where the application says which methods the address has."""
    app = CorsMiddleware(Echoes(204, ("Allow", "GET, HEAD, OPTIONS")), origins=ORIGINS, **options)
    return await ask(app, make_preflight(headers, origin))


def get_allowed_headers(answer: Answer) -> set[str]:
    return set(answer["access-control-allow-headers"].lower().split(", "))


async def test_a_preflight_lists_the_methods_of_the_address_and_the_headers() -> None:
    """For ten minutes."""
    answer = await preflight()

    assert_readable_across_origins(answer)
    assert answer["access-control-allow-origin"] == "http://localhost:3000"
    assert answer["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert answer["access-control-max-age"] == "600"
    assert {
        *("content-type", "authorization", "idempotency-key", "last-event-id", "prefer", "x-device-id"),
        *("traceparent", "tracestate", "baggage", "x-requested-with", "cache-control", "x-user-id"),
        *("pragma", "sentry-trace", "b3", "x-correlation-id", "x-request-id"),
    } <= get_allowed_headers(answer)


async def test_generated_clients_may_tell_about_themselves() -> None:
    """Under as many names as they like, and under no others."""
    asked = "x-stainless-os, X-Stainless-Runtime-Version, x-evil, x-stainless-\u00e4, x-stainless-" + "a" * 50
    allowed = get_allowed_headers(await preflight(asked))

    assert {"x-stainless-os", "x-stainless-runtime-version"} <= allowed
    assert [name for name in allowed if name.startswith("x-evil") or len(name) > 50] == []


@pytest.mark.parametrize("name", ["x-b3-traceid", "X-B3-Sampled", "x-datadog-trace-id", "x-datadog-parent-id"])
async def test_tracing_libraries_may_name_the_request(name: str) -> None:
    """They add their headers to every request of a page, which would otherwise be refused."""
    assert name.lower() in get_allowed_headers(await preflight(name))


async def test_an_operator_may_allow_more_headers() -> None:
    """With CORS_HEADERS."""
    assert "x-zoo" not in get_allowed_headers(await preflight("x-zoo"))
    assert "x-zoo" in get_allowed_headers(await preflight("x-zoo", more_headers=("X-Zoo",)))


async def test_a_preflight_for_an_address_that_does_not_exist_allows_nothing() -> None:
    """The 404 passes."""
    answer = await ask(add_cors(Echoes(404)), make_preflight("content-type"))

    assert answer.status == 404
    assert answer.all("access-control-allow-methods") == []


async def test_a_preflight_of_another_origin_is_answered_with_an_allowed_one() -> None:
    """The browser compares it with the page's origin and refuses the request."""
    answer = await preflight(origin="https://evil.example")

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
