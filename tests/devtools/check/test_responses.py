"""The rules for answers that are not streams: problems, headers, cookies and polled states."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from openapi_server.devtools.check.responses import (
    ANY_4XX,
    PROBLEM_JSON,
    check_cookie,
    check_cors,
    check_forward,
    check_problem,
    check_stream_headers,
)
from openapi_server.devtools.check.stream_rules import Violation

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
    "type": "/problems/invalid_input",
    "title": "The request is not valid",
    "status": 400,
    "detail": "message: is required",
    "code": "invalid_input",
    "errors": [{"field": "message", "message": "is required"}],
}


def make_answer(status: int = 400, kind: str = PROBLEM_JSON, headers: Any = CORS, **members: Any) -> httpx.Response:
    request = httpx.Request("POST", "http://zoo/chat")
    body = {name: value for name, value in (PROBLEM | members).items() if value is not None}
    return httpx.Response(status, json=body, headers={**headers, "content-type": kind}, request=request)


def test_a_good_problem_is_summarized() -> None:
    """Its status and its code."""
    assert check_problem(make_answer(), (400,), field="message", detail="required") == "400 invalid_input"
    assert check_problem(make_answer(), ANY_4XX) == "400 invalid_input"


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (make_answer(404), "404, not 400"),
        (make_answer(kind="text/html"), "400 as 'text/html'"),
        (make_answer(headers={}), "no Access-Control-Allow-Origin"),
        (make_answer(status=400, code=None), "the problem has no code"),
        (make_answer(title=7), "the problem has no title"),
        (make_answer(errors=[]), "errors name"),
        (make_answer(detail="no"), "does not contain"),
        (make_answer(detail="Traceback (most recent call last): required"), "leaks server internals"),
        (make_answer(detail='required: File "/srv/app.py", line 3'), "leaks server internals"),
    ],
)
def test_each_defect_of_a_problem_is_named(answer: httpx.Response, evidence: str) -> None:
    """With the request that was answered with it."""
    with pytest.raises(Violation, match=evidence):
        check_problem(answer, (400,), field="message", detail="required")


@pytest.mark.parametrize("name", STREAM)
def test_a_stream_needs_each_of_its_headers(name: str) -> None:
    """Content type, caching, buffering, the turn's id, and who may read it."""
    check_stream_headers(httpx.Headers(STREAM))
    with pytest.raises(Violation):
        check_stream_headers(httpx.Headers({**STREAM, name: ""}))


def test_no_origin_may_be_any_with_credentials() -> None:
    """Browsers refuse the combination."""
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
def test_each_defect_of_a_cookie_is_named(cookie: str | None, evidence: str) -> None:
    """No script may read it, and no other site send it."""
    headers = httpx.Headers({"set-cookie": cookie} if cookie else {})

    with pytest.raises(Violation, match=evidence):
        check_cookie(headers, "session_id")


def test_the_value_of_a_cookie_is_never_evidence() -> None:
    """It gives access to somebody's conversations."""
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
def test_each_defect_of_polled_states_is_named(states: list[str], evidence: str) -> None:
    """The status only goes forward, to the last one."""
    order = ("pending", "running", "succeeded")

    with pytest.raises(Violation, match=evidence):
        check_forward([{"status": status} for status in states], order, lambda state: 0)


def test_progress_of_polled_states_never_falls() -> None:
    """Status and progress may stay the same."""
    states = [{"status": "running", "progress": 50}, {"status": "running", "progress": 25}]

    with pytest.raises(Violation, match="progress goes back"):
        check_forward(states, ("running",), lambda state: int(state["progress"]))
