"""Request limits: what exceeds them is refused before it is parsed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from openapi_server.http.request_limits import MAX_HEADER_BYTES, MAX_PATH_BYTES, RequestLimitsMiddleware
from tests.support.asgi import WAIT_S, Arrives, Echoes, Leaves, Request, ask

LIMIT = 1000


def limit(app: Echoes, *, request_timeout_s: float = WAIT_S) -> RequestLimitsMiddleware:
    return RequestLimitsMiddleware(app, max_body_bytes=LIMIT, request_timeout_s=request_timeout_s)


def with_header(name: str, value: str) -> Request:
    return Request(headers=((name, value),))


class Trickles:
    """A client that sends an empty part again and again, and never the last one."""

    async def __call__(self) -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": True}


@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=6))
async def test_a_body_in_any_parts_arrives_whole_with_its_true_length(parts: list[bytes]) -> None:
    """Connexion takes a body without Content-Length for none at all, so a chunked one gets it here."""
    app = Echoes()
    answer = await ask(limit(app), with_header("Transfer-Encoding", "chunked"), Arrives(*parts))

    body = b"".join(parts)
    assert (answer.status, answer.body) == (200, body)
    assert app.header(b"content-length") == ([str(len(body)).encode()] if body else [])
    assert app.header(b"transfer-encoding") == []


async def test_other_headers_and_the_rest_of_the_scope_stay_as_they_were() -> None:
    """The limits are checked; nothing else is rewritten."""
    app = Echoes()
    request = Request(
        path="/convo_turn/Löwe", query=b"a=1&b=2", headers=(("X-A", "1"), ("X-A", "2"), ("Content-Length", "2"))
    )
    await ask(limit(app), request, Arrives(b"{}"))

    assert app.header(b"x-a") == [b"1", b"2"]
    assert app.header(b"content-length") == [b"2"]
    (scope,) = app.scopes
    assert {**scope, "headers": None} == {**request.scope, "headers": None}


@pytest.mark.parametrize("parts", [(b"x" * LIMIT,), (b"x" * (LIMIT - 1), b"x"), (b"",)])
async def test_a_body_at_the_limit_is_taken(parts: tuple[bytes, ...]) -> None:
    """The limit itself is allowed."""
    assert (await ask(limit(Echoes()), Request(), Arrives(*parts))).body == b"".join(parts)


@pytest.mark.parametrize("length", [LIMIT + 1, 50 * 1024 * 1024, 10**17])
async def test_a_body_that_says_it_is_too_large_is_refused_unread(length: int) -> None:
    """Not one byte of it is read; the connection closes, so the rest is never taken for a request."""
    app, connection = Echoes(), Arrives(b"x" * 100, is_whole=False)
    answer = await ask(limit(app), with_header("Content-Length", str(length)), connection)

    assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
    assert answer["connection"] == "close"
    assert (app.scopes, connection.taken) == ([], 0)


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large() -> None:
    """50 MB without a length: reading stops at the limit, whatever else would come."""
    app, connection = Echoes(), Arrives(*[b"x" * 400] * 100)
    answer = await ask(limit(app), Request(), connection)

    assert answer.problem["code"] == "body_too_large"
    assert str(LIMIT) in answer.problem["detail"]
    assert answer["connection"] == "close"
    assert (app.scopes, connection.taken) == ([], 3)


@pytest.mark.parametrize(
    "connection", [Arrives(b'{"mess', is_whole=False), Trickles()], ids=["stops in the middle", "trickles for ever"]
)
async def test_a_slow_body_is_a_408(connection: Receive) -> None:
    """The time is for the whole request; a byte now and then does not buy more of it."""
    app = Echoes()
    answer = await ask(limit(app, request_timeout_s=0.02), Request(), connection)

    assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
    assert answer["connection"] == "close"
    assert app.scopes == []


class Lingers(Echoes):
    """An application that takes its time once the body is there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline_has_passed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.03, deadline_has_passed.set)
        await deadline_has_passed.wait()
        await super().__call__(scope, receive, send)


async def test_the_time_limit_is_for_the_request_and_not_for_the_answer() -> None:
    """A stream may last for minutes once its request has arrived."""
    answer = await ask(limit(Lingers(), request_timeout_s=0.01), Request(), Arrives(b"{}"))

    assert answer.status == 200


async def test_a_client_that_leaves_early_gets_no_answer() -> None:
    """Nobody is there to read it, and the half body must not be taken for a whole one."""
    app = Echoes()
    answer = await ask(limit(app), Request(), Leaves(b'{"mess', is_whole=False))

    assert answer.status is None
    assert app.scopes == []


class Watches(Echoes):
    """An application that reads on after the body, as a stream does to notice that its client has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        self.after = await receive()


async def test_after_the_body_the_application_hears_the_connection_itself() -> None:
    """A client that disconnects during a stream is noticed by the stream."""
    app = Watches()
    await ask(limit(app), Request(), Leaves(b"{}"))

    assert app.after == {"type": "http.disconnect"}


REFUSED: list[tuple[str, Request, int, str]] = [
    ("NUL in the path", Request(path="/animal/lion_001\0"), 400, "path"),
    ("a line feed in the path", Request(path="/animal/lion_001\n"), 400, "path"),
    ("a carriage return in the path", Request(path="/animal/\rlion"), 400, "path"),
    ("an escape in the path", Request(path="/\x1b[31m"), 400, "path"),
    ("delete in the path", Request(path="/\x7f"), 400, "path"),
    ("a path too long", Request(path="/" + "a" * MAX_PATH_BYTES), 400, "path"),
    ("raw bytes in the query", Request(query="name=Löwe".encode()), 400, "query"),
    ("a length in words", with_header("Content-Length", "ten"), 400, "Content-Length"),
    ("a length below zero", with_header("Content-Length", "-1"), 400, "Content-Length"),
    ("a length with a sign", with_header("Content-Length", "+1"), 400, "Content-Length"),
    ("a length with an exponent", with_header("Content-Length", "1e3"), 400, "Content-Length"),
    ("a superscript length", with_header("Content-Length", "²"), 400, "Content-Length"),
    ("no length in the header", with_header("Content-Length", ""), 400, "Content-Length"),
    ("two lengths in one", with_header("Content-Length", "2, 2"), 400, "Content-Length"),
    ("a length of 5,000 digits", with_header("Content-Length", "9" * 5000), 400, "Content-Length"),
]


@pytest.mark.parametrize(("request_", "status", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_a_head_that_is_no_good_is_refused_and_the_part_named(request_: Request, status: int, field: str) -> None:
    """A problem with the field's name, before a single byte of the body is read."""
    app, connection = Echoes(), Arrives(b"{}")
    answer = await ask(limit(app), request_, connection)

    assert answer.status == status
    assert [error["field"] for error in answer.problem["errors"]] == [field]
    assert answer["cache-control"] == "private, no-store"
    assert (app.scopes, connection.taken) == ([], 0)


async def test_headers_beyond_the_limit_are_a_431() -> None:
    """100,000 headers, or one that is as long: what counts is the sum."""
    app = Echoes()
    many = Request(headers=tuple((f"X-{n}", "1") for n in range(10_000)))
    long = with_header("X-A", "a" * MAX_HEADER_BYTES)
    most = with_header("X-A", "a" * (MAX_HEADER_BYTES - len("X-A") - len("Hosttestserver")))

    assert (await ask(limit(app), many)).problem["code"] == "headers_too_large"
    assert (await ask(limit(app), long)).status == 431
    assert app.scopes == []
    assert (await ask(limit(app), most)).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "identity, gzip", "zstd", "x"])
async def test_a_compressed_body_is_a_415_unread(encoding: str) -> None:
    """A few kilobytes of gzip can unpack to gigabytes; JSON questions need no compression."""
    app, connection = Echoes(), Arrives(b"\x1f\x8b")
    answer = await ask(limit(app), with_header("Content-Encoding", encoding), connection)

    assert (answer.status, answer.problem["code"]) == (415, "unsupported_media_type")
    assert (app.scopes, connection.taken) == ([], 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "application/json"),
        ("Content-Type", "application/json; charset=utf-8"),
        ("Content-Type", 'application/json;charset="UTF-8"'),
        ("Content-Type", "application/json; charset=utf8; x=1"),
        ("Content-Type", "application/json; charset=US-ASCII"),
        ("Content-Encoding", "identity"),
        ("Content-Encoding", "Identity"),
        ("Content-Length", "0002"),
    ],
)
async def test_ordinary_heads_pass(name: str, value: str) -> None:
    """What ordinary clients send is within the limits."""
    assert (await ask(limit(Echoes()), with_header(name, value), Arrives(b"{}"))).body == b"{}"


@pytest.mark.parametrize("path", ["/", "/" + "a" * (MAX_PATH_BYTES - 1), "/animal/Löwe 🦁", "/animal/../x", "/a%00"])
async def test_odd_paths_that_can_do_no_harm_pass(path: str) -> None:
    """The router answers them with 404."""
    assert (await ask(limit(Echoes()), Request(path=path))).status == 200


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(kind: str) -> None:
    """Lifespan and websocket scopes are passed on."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": kind}
    await RequestLimitsMiddleware(app, max_body_bytes=1, request_timeout_s=1)(scope, Arrives(), _unheard)

    assert seen == [scope]


async def _unheard(message: Message) -> None:
    raise AssertionError(f"nothing is sent here: {message}")
