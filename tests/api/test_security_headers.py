"""What browsers and caches are told, over every operation and every kind of answer."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from openapi_server.http.operation_table import NO_STORE
from openapi_server.spec import load_spec
from openapi_server.wire.sse import STREAM_HEADERS
from tests.conftest import OpensClient

HELLO = {"message": "Hello!", "animalId": "lion_001"}
STRICT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Reads that are the same for everybody. A new operation is private unless it is entered here.
PUBLIC = {
    "get_welcome": "no-cache",
    "list_models": "no-cache",
    "animal_list": "no-cache",
    "get_animal": "no-cache",
    "animal_details": "no-cache",
    "get_health": "no-store",
    "get_readiness": "no-store",
    "get_system_health": "no-store",
    "get_metrics": "no-store",
    "list_problem_types": "no-cache",
    "get_problem_type": "no-cache",
}
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    (method.upper(), path, operation)
    for path, item in load_spec()["paths"].items()
    for method, operation in item.items()
]
PRODUCTION: dict[str, Any] = {
    "environment": "production",
    "signing_key": "Zq3v8xJw2LrT5nYb7KcM1pDf4HgS6aQeUoXiVt9B0yE=",
    "cors_origins": ("https://zoo.example",),
}


def assert_safe(answer: httpx.Response) -> None:
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].endswith("; frame-ancestors 'none'")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_each_operation_decides_who_may_keep_its_answers(method: str, path: str, operation: dict[str, Any]) -> None:
    """`private, no-store` whenever an answer belongs to one caller: only the list above is for everybody."""
    assert operation["x-cache-control"] == PUBLIC.get(operation["operationId"], NO_STORE)
    if operation["operationId"] in PUBLIC:
        assert method == "GET"
        assert operation.get("x-minimum-role") or not operation.get("security")


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
async def test_every_answer_of_every_operation_has_the_headers(
    client: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    """A refusal may be cached by nobody, a success as the spec says."""
    address = re.sub(r"{\w+}", "lion_001", path)
    answer = await client.request(method, address, headers={"Accept": "application/json"})

    assert_safe(answer)
    expected = operation["x-cache-control"] if answer.status_code < 300 else NO_STORE
    assert answer.headers["cache-control"] == expected
    assert answer.headers["content-security-policy"] == STRICT


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "//health", 404),
        ("PUT", "/health", 405),
        ("OPTIONS", "/health", 204),
        ("GET", "/health/", 307),
        ("GET", "/health?x=1&x=2", 400),
        ("HEAD", "/health", 200),
    ],
)
async def test_answers_of_no_operation_have_the_headers_too(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """404, 405, redirects and preflights."""
    answer = await client.request(method, f"http://testserver{path}")

    assert answer.status_code == status
    assert_safe(answer)


@pytest.mark.parametrize(
    ("path", "media_types"),
    [
        ("/", ["text/html", "application/json"]),
        ("/problems", ["text/html", "application/json"]),
        ("/problems/not_found", ["text/html", "application/json"]),
        ("/system_health", ["application/json", "application/health+json"]),
        ("/health", ["application/json"]),
        ("/animal_list", ["application/json"]),
    ],
)
async def test_an_answer_that_accept_chooses_says_so_to_caches(
    client: httpx.AsyncClient, path: str, media_types: list[str]
) -> None:
    """RFC 9110, section 12.5.5: beside `Origin`, and only where there is a choice."""
    for media_type in media_types:
        answer = await client.get(path, headers={"Accept": media_type})

        assert answer.headers["content-type"].partition(";")[0] == media_type
        named = {name.strip() for name in answer.headers["vary"].split(",")}
        assert named == ({"Origin", "Accept"} if len(media_types) > 1 else {"Origin"})


async def test_a_stream_keeps_its_own_headers(client: httpx.AsyncClient) -> None:
    """And has the others."""
    answer = await client.post("/convo_turn_stream", json=HELLO)

    assert_safe(answer)
    assert STREAM_HEADERS.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
    assert answer.headers["content-security-policy"] == STRICT


@pytest.mark.parametrize("path", ["/", "/ui/"])
async def test_a_page_may_load_its_own_parts_and_no_others(client: httpx.AsyncClient, path: str) -> None:
    """No script of anybody else, and none inside the page."""
    answer = await client.get(path, headers={"Accept": "text/html"})

    assert_safe(answer)
    directives = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert directives["default-src"] == "'none'"
    assert directives.get("script-src", "'self'") == "'self'"
    assert not any("*" in value or "http" in value or "unsafe" in value for value in directives.values())


async def test_https_is_demanded_in_production_only(open_client: OpensClient) -> None:
    """And not from a kiosk that has to do with plain HTTP."""
    production = await (await open_client(**PRODUCTION)).get("/health")
    kiosk = await (await open_client(**PRODUCTION, cookie_secure="never")).get("/health")
    # Last, because it creates demo accounts, with which production does not start.
    development = await (await open_client()).get("/health")

    assert production.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in development.headers
    assert "strict-transport-security" not in kiosk.headers


async def test_others_may_show_the_pages_in_a_frame_where_the_operator_says_so(open_client: OpensClient) -> None:
    """With FRAME_ANCESTORS; the old header, which cannot name origins, is left out."""
    client = await open_client(frame_ancestors="self, https://zoo.example")
    answer = await client.get("/", headers={"Accept": "text/html"})

    assert answer.headers["content-security-policy"].endswith("; frame-ancestors 'self' https://zoo.example")
    assert "x-frame-options" not in answer.headers


COOKIES: list[tuple[dict[str, Any], str, str, bool]] = [
    ({}, "http", "lax", False),
    ({}, "https", "lax", True),
    (PRODUCTION, "http", "lax", True),
    ({**PRODUCTION, "cookie_secure": "never"}, "https", "lax", False),
    ({"cookie_secure": "always", "cookie_samesite": "none"}, "http", "none", True),
    ({"cookie_samesite": "strict"}, "http", "strict", False),
]


@pytest.mark.parametrize(("settings", "scheme", "same_site", "is_secure"), COOKIES)
async def test_cookies_follow_the_settings_and_the_proxy(
    open_client: OpensClient, settings: dict[str, Any], scheme: str, same_site: str, is_secure: bool
) -> None:
    """The scheme is that which a trusted proxy says."""
    client = await open_client(**settings, trusted_proxies="1")
    answer = await client.post("/convo_turn", json=HELLO, headers={"X-Forwarded-Proto": scheme})

    parts = [part.strip().lower() for part in answer.headers["set-cookie"].split(";")]
    assert f"samesite={same_site}" in parts
    assert "httponly" in parts
    assert ("secure" in parts) == is_secure


async def test_a_read_that_gives_an_etag_is_304_the_second_time(client: httpx.AsyncClient) -> None:
    """Public facts of an animal."""
    first = await client.get("/animal/lion_001")
    second = await client.get("/animal/lion_001", headers={"If-None-Match": first.headers["etag"]})

    assert (first.status_code, second.status_code, second.content) == (200, 304, b"")
    assert_safe(second)


async def test_links_follow_the_prefix_of_the_proxy(open_client: OpensClient) -> None:
    """`Location`, `polling_url`, the welcome page and its command."""
    client = await open_client(trusted_proxies="1")
    forwarded = {"X-Forwarded-Prefix": "/zoo", "X-Forwarded-Host": "zoo.example", "X-Forwarded-Proto": "https"}
    client.headers.update(forwarded)
    accepted = await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    job = await client.post("/api/v1/stream?mode=job", json={"query": "Hello!"})
    redirect = await client.get("/animal_list/?status=active")
    page = (await client.get("/", headers={"Accept": "text/html"})).text
    welcome = (await client.get("/", headers={"Accept": "application/json"})).json()

    assert accepted.headers["location"].startswith("/zoo/convo_turn/turn_")
    assert job.json()["polling_url"].startswith("/zoo/jobs/job_")
    assert redirect.headers["location"] == "/zoo/animal_list?status=active"
    assert 'href="/zoo/ui/"' in page
    assert "curl -N https://zoo.example/zoo/convo_turn_stream" in page
    assert welcome["docs"] == "https://zoo.example/zoo/ui/"
