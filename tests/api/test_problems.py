"""Errors over HTTP: one form for all, and the headers that every answer has."""

from __future__ import annotations

import ast
import gc
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import TracebackType

import httpx
import pytest

import openapi_server
from openapi_server.models.prompt import Prompt
from openapi_server.protocols import ReplyEnd
from tests.conftest import OpensClient
from tests.support.fakes import FakeKnowledge, SingleModelProvider

HELLO = json.dumps({"message": "Hello!", "animalId": "lion_001"}).encode()
JSON = {"Content-Type": "application/json"}
PACKAGE = Path(openapi_server.__file__).parent


class BrokenZoo(FakeKnowledge):
    """Knowledge with a bug that no test of ours has found yet."""

    def get_animal(self, animal_id: str) -> None:
        raise ZeroDivisionError("a secret in a traceback")


async def half_a_body() -> AsyncIterator[bytes]:
    yield HELLO[:10]
    yield HELLO[10:]


CASES = [
    ("bad JSON", "POST", "/convo_turn", b'{"message": ', JSON, 400),
    ("no body", "POST", "/convo_turn", b"", JSON, 400),
    ("NaN", "POST", "/convo_turn", b'{"message": "Hi", "animalId": "lion_001", "metadata": {"a": NaN}}', JSON, 400),
    ("a key twice", "POST", "/convo_turn", b'{"message": "a", "message": "b", "animalId": "lion_001"}', JSON, 400),
    ("UTF-16", "POST", "/convo_turn", HELLO.decode().encode("utf-16"), JSON, 400),
    ("invalid UTF-8", "POST", "/convo_turn", b'{"message": "\xff", "animalId": "lion_001"}', JSON, 400),
    ("deep", "POST", "/convo_turn", b"[" * 100_000 + b"]" * 100_000, JSON, 400),
    ("long number", "POST", "/convo_turn", b'{"message": ' + b"9" * 5000 + b"}", JSON, 400),
    ("half a surrogate", "POST", "/convo_turn", b'{"message": "\\ud83e", "animalId": "lion_001"}', JSON, 400),
    ("NUL", "POST", "/convo_turn", b'{"message": "a\\u0000b", "animalId": "lion_001"}', JSON, 400),
    ("nowhere", "GET", "/nowhere", b"", {}, 404),
    ("climbing", "GET", "/animal/..%2f..%2fetc", b"", {}, 404),
    ("wrong method", "PUT", "/convo_turn_stream", b"", {}, 405),
    ("wrong method", "DELETE", "/health", b"", {}, 405),
    ("unacceptable", "POST", "/convo_turn_stream", HELLO, {**JSON, "Accept": "image/png"}, 406),
    ("unacceptable", "GET", "/health", b"", {"Accept": "text/html"}, 406),
    ("too large", "POST", "/convo_turn", b" " * 300_000, JSON, 413),
    ("not JSON", "POST", "/convo_turn", b"<a/>", {"Content-Type": "application/xml"}, 415),
    ("a form", "POST", "/convo_turn", b"message=Hi", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("compressed", "POST", "/convo_turn", HELLO, {**JSON, "Content-Encoding": "gzip"}, 415),
    ("charset", "POST", "/convo_turn", HELLO, {"Content-Type": "application/json; charset=utf-7"}, 415),
    ("headers", "GET", "/health", b"", {"X-Long": "x" * 40_000}, 431),
    ("path", "GET", "/" + "x" * 3000, b"", {}, 400),
]


@pytest.mark.parametrize(("name", "method", "path", "body", "headers", "status"), CASES)
async def test_every_refusal_is_a_problem_of_rfc_9457(
    client: httpx.AsyncClient, name: str, method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """One shape, one media type, the right status, and the cross-origin and request-id headers."""
    answer = await client.request(method, path, content=body, headers=headers)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert problem["status"] == status
    assert "Traceback" not in answer.text
    assert answer.headers["access-control-allow-origin"]
    assert answer.headers["vary"] in ("Origin", "Origin, Accept")
    assert answer.headers["x-request-id"]


async def test_a_bug_of_ours_is_500_and_tells_nothing(open_client: OpensClient) -> None:
    """The log has the traceback; the caller gets a request id."""
    client = await open_client(knowledge=BrokenZoo())

    answer = await client.get("/animal/lion_001")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["access-control-allow-origin"]


async def test_a_body_in_pieces_without_a_length_is_read_like_any_other(client: httpx.AsyncClient) -> None:
    """A chunked body needs no `Content-Length`."""
    answer = await client.post("/convo_turn", content=half_a_body(), headers=JSON)

    assert answer.status_code == 200


class Rambles(SingleModelProvider):
    """A provider whose reply would break markup, logs and streams if anyone let it."""

    model = "fake-1"

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        yield "<script>alert(1)</script>\r\nevent: complete\ndata: {}\n\n\u2028\x00"
        yield ReplyEnd()


async def test_a_reply_cannot_forge_events(open_client: OpensClient) -> None:
    """Line ends inside text are escaped: the stream has one event a chunk, whatever the model says."""
    client = await open_client(Rambles())

    answer = await client.post("/convo_turn_stream", content=HELLO, headers=JSON)

    assert answer.text.count("\nevent: complete") == 1


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://evil.example", None])
async def test_only_allowed_origins_are_named_back(client: httpx.AsyncClient, origin: str | None) -> None:
    """A stranger is told the first allowed origin, which is not its own."""
    answer = await client.get("/health", headers={"Origin": origin} if origin else {})

    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert ("access-control-allow-credentials" in answer.headers) == (origin == "http://localhost:3000")


async def test_a_preflight_is_answered(client: httpx.AsyncClient) -> None:
    """Browsers send it first; no operation is called."""
    answer = await client.options(
        "/convo_turn_stream",
        headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"},
    )

    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Last-Event-ID" in answer.headers["access-control-allow-headers"]


async def test_a_plain_request_id_comes_back_and_a_forged_one_does_not(client: httpx.AsyncClient) -> None:
    """Callers may bring their own id for the log, not their own log lines."""
    plain = await client.get("/health", headers={"X-Request-Id": "abc-123"})
    forged = await client.get("/health", headers={"X-Request-Id": "abc level=error"})

    assert plain.headers["x-request-id"] == "abc-123"
    assert "level" not in forged.headers["x-request-id"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("a" + " " * 32_000 + "a", 406),
        ("a/a;" + " " * 32_000 + ";q=1", 406),
        ("text/html," * 3_200, 406),
        ("text/html," * 3_200 + "application/json", 406),
        ("text/html;q=0.9, a  b, */*; q=0.1", 200),
        ("Application/JSON;charset=utf-8;q=0.5", 200),
        ("application/json;q=0", 406),
    ],
    ids=["blanks inside", "blanks in parameters", "many", "many, the last one known", "one malformed", "case", "zero"],
)
async def test_media_ranges_are_read_in_linear_time(client: httpx.AsyncClient, accept: str, status: int) -> None:
    """32,000 blanks in one range held up the event loop for 1.7 s. What is no media range is ignored."""
    began_s = time.process_time()
    answer = await client.get("/health", headers={"Accept": accept})

    assert answer.status_code == status
    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize(
    "accept", ["application/problem+json", "Application/Problem+JSON; charset=utf-8", "application/*"]
)
async def test_a_client_that_takes_only_problems_gets_the_stream(client: httpx.AsyncClient, accept: str) -> None:
    """openapi-generator's clients for Python name one media type, JSON if they can: beside a stream the error's."""
    answer = await client.post("/convo_turn_stream", content=HELLO, headers={**JSON, "Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("GET", "/me"), ("DELETE", "/health"), ("GET", "/convo_turn/turn_0")]
)
async def test_refused_requests_leave_nothing_behind(client: httpx.AsyncClient, method: str, path: str) -> None:
    """An error that is raised again keeps the frames of every request that it has ended."""
    for _ in range(3):
        await client.request(method, path)
    gc.collect()
    before = count_tracebacks()
    for _ in range(20):
        await client.request(method, path)
    gc.collect()

    assert count_tracebacks() < before + 20


def count_tracebacks() -> int:
    return sum(isinstance(one, TracebackType) for one in gc.get_objects())


def test_every_error_is_made_where_it_is_raised() -> None:
    """No constant, no attribute and no item of a table is raised: it would keep the frames of every request."""
    kept = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and not is_new(node.exc)
    ]
    assert kept == []


def is_new(raised: ast.expr | None) -> bool:
    """A call, a class, or a variable, such as the exception that is being handled."""
    match raised:
        case ast.IfExp(body=one, orelse=other):
            return is_new(one) and is_new(other)
        case ast.Attribute(attr="simulated_error"):
            # Of one turn.
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return not name.isupper() and (isinstance(raised, ast.Name) or name[0].isupper())
        case _:
            return raised is None or isinstance(raised, ast.Call | ast.Await)
