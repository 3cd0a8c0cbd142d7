"""304: an answer with an `ETag` that the client has already."""

from __future__ import annotations

import pytest

from openapi_server.http.conditional_requests import ConditionalGetMiddleware
from tests.support.asgi import Answer, Arrives, Echoes, Request, ask


async def ask_with(if_none_match: str, *, method: str = "GET", status: int = 200, etag: str | None = '"17"') -> Answer:
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-cache")]
    app = Echoes(status, *headers, *([("ETag", etag)] if etag else []))
    request = Request(method, headers=(("If-None-Match", if_none_match),))
    return await ask(ConditionalGetMiddleware(app), request, Arrives(b"a body"))


@pytest.mark.parametrize("known", ['"17"', 'W/"17"', '"16", "17"', '"16","17"', "*", ' "17" '])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_the_client_has_is_not_sent_again(known: str, method: str) -> None:
    """RFC 9110, sections 13.1.2 and 15.4.5: what describes the version stays."""
    answer = await ask_with(known, method=method)

    assert (answer.status, answer.body, answer.is_whole) == (304, b"", True)
    assert (answer["etag"], answer["cache-control"]) == ('"17"', "no-cache")
    assert answer.all("content-type") == []


@pytest.mark.parametrize("known", ['"18"', "17", '"1"7', "", '"', "garbage, *"])
async def test_anything_else_is_sent(known: str) -> None:
    """Also what is no list of tags."""
    answer = await ask_with(known)

    assert (answer.status, answer.body) == (200, b"a body")


@pytest.mark.parametrize(
    ("method", "status", "etag"),
    [("PUT", 200, '"17"'), ("POST", 200, '"17"'), ("GET", 404, '"17"'), ("GET", 201, '"17"'), ("GET", 200, None)],
)
async def test_only_a_successful_read_with_a_tag_can_be_unchanged(method: str, status: int, etag: str | None) -> None:
    """Errors and changes are answered in full."""
    answer = await ask_with('"17"', method=method, status=status, etag=etag)

    assert (answer.status, answer.body) == (status, b"a body")
