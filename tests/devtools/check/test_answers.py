"""What is asked of answers that are no streams: problems, headers, cookies, states."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from openapi_server.devtools.check.answers import (
    ANY_4XX,
    PROBLEM_JSON,
    check_cookie,
    check_cors,
    check_problem,
    check_stream_headers,
)
from openapi_server.devtools.check.findings import Violation
from openapi_server.devtools.check.polling import check_forward

CORS = {
    "access-control-allow-origin": "http://localhost:3000",
    "vary": "Origin",
    "access-control-expose-headers": "X-Streaming-Session-Id",
}
STREAM = CORS | {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",
    "x-streaming-session-id": "turn_a",
}
PROBLEM: dict[str, Any] = {
    "type": "urn:problem:zoochat:invalid_input",
    "title": "The request is not valid",
    "status": 400,
    "detail": "message: is required",
    "code": "invalid_input",
    "errors": [{"field": "message", "message": "is required"}],
}


def answered(status: int = 400, kind: str = PROBLEM_JSON, headers: Any = CORS, **members: Any) -> httpx.Response:
    request = httpx.Request("POST", "http://zoo/chat")
    body = {name: value for name, value in (PROBLEM | members).items() if value is not None}
    return httpx.Response(status, json=body, headers={**headers, "content-type": kind}, request=request)


def test_a_good_problem_is_told_in_short() -> None:
    """Its status and its code."""
    assert check_problem(answered(), (400,), field="message", says="required") == "400 invalid_input"
    assert check_problem(answered(), ANY_4XX) == "400 invalid_input"


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (answered(404), "404 where 400 is due"),
        (answered(kind="text/html"), "400 as 'text/html'"),
        (answered(headers={}), "no Access-Control-Allow-Origin"),
        (answered(status=400, code=None), "the problem has no code"),
        (answered(title=7), "the problem has no title"),
        (answered(errors=[]), "errors name"),
        (answered(detail="no"), "does not say"),
        (answered(detail="Traceback (most recent call last): required"), "the server's inside"),
        (answered(detail='required: File "/srv/app.py", line 3'), "the server's inside"),
    ],
)
def test_each_fault_of_a_problem_is_named(answer: httpx.Response, evidence: str) -> None:
    """With the request that was answered so."""
    with pytest.raises(Violation, match=evidence):
        check_problem(answer, (400,), field="message", says="required")


@pytest.mark.parametrize("name", STREAM)
def test_a_stream_needs_each_of_its_headers(name: str) -> None:
    """Content type, caching, buffering, the turn's id, and who may read it."""
    check_stream_headers(httpx.Headers(STREAM))
    with pytest.raises(Violation):
        check_stream_headers(httpx.Headers({**STREAM, name: ""}))


def test_no_origin_may_be_any_with_credentials() -> None:
    """Browsers refuse it, and rightly."""
    anybody = {**CORS, "access-control-allow-origin": "*", "access-control-allow-credentials": "true"}

    with pytest.raises(Violation, match="credentials"):
        check_cors(httpx.Headers(anybody), "GET /")


@pytest.mark.parametrize(
    ("cookie", "evidence"),
    [
        (None, "NO COOKIES received"),
        ("other=1; HttpOnly; Path=/; SameSite=Lax", "NO COOKIES received"),
        ("session_id=1; Path=/; SameSite=Lax", "lacks HttpOnly"),
        ("session_id=1; HttpOnly; Path=/chat; SameSite=None", "lacks SameSite=Lax, Path=/"),
    ],
)
def test_each_fault_of_a_cookie_is_named(cookie: str | None, evidence: str) -> None:
    """No script may read it, and no foreign page send it along."""
    headers = httpx.Headers({"set-cookie": cookie} if cookie else {})

    with pytest.raises(Violation, match=evidence):
        check_cookie(headers, "session_id")


def test_the_value_of_a_cookie_is_never_evidence() -> None:
    """It is a key to somebody's talks."""
    headers = httpx.Headers({"set-cookie": "session_id=secret; HttpOnly; samesite=lax; Path=/"})

    assert "secret" not in check_cookie(headers, "session_id")


@pytest.mark.parametrize(
    ("states", "evidence"),
    [
        (["running", "pending", "succeeded"], "goes back"),
        (["pending", "done"], "none of"),
        (["pending", "running"], "the last status"),
    ],
)
def test_each_fault_of_polled_states_is_named(states: list[str], evidence: str) -> None:
    """Forwards only, to the end."""
    order = ("pending", "running", "succeeded")

    with pytest.raises(Violation, match=evidence):
        check_forward([{"status": status} for status in states], order, lambda state: 0)


def test_progress_of_polled_states_only_rises() -> None:
    """The states may stand still, and so may the progress."""
    states = [{"status": "running", "progress": 50}, {"status": "running", "progress": 25}]

    with pytest.raises(Violation, match="progress goes back"):
        check_forward(states, ("running",), lambda state: int(state["progress"]))
