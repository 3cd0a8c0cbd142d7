"""The rules for answers that are not streams: problem objects, headers, cookies, and the states of polled jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from openapi_server.devtools.check.stream_rules import require

PROBLEM_JSON = "application/problem+json"
PROBLEM_MEMBERS = {"type": str, "title": str, "status": int, "detail": str, "code": str}

# The allowed statuses of an answer.
Statuses = range | tuple[int, ...]
ANY_4XX = range(400, 500)

# One answer of a polled URL.
PolledState = dict[str, Any]

# Signs of a leak: a traceback, an HTML page, source files, object addresses.
_LEAK = re.compile(
    r"Traceback \(most recent|File \"[^\"]+\", line \d+|<!doctype|<html|\.py\b|0x[0-9a-f]{8}", re.IGNORECASE
)


def check_failure(answer: httpx.Response) -> str:
    """Check that a refusal has an error status and says something, with nothing of the server's insides.

    A page, such as a framework's own, says nothing to the people who use a client.
    """
    where = f"{answer.request.method} {answer.request.url.path}"
    require(answer.status_code >= 400, f"{where}: {answer.status_code}, not an error: {answer.text[:80]!r}")
    require(answer.text.strip(), f"{where}: {answer.status_code} without a word")
    check_leak(answer.text, f"{where}: {answer.status_code}")
    return f"{where} {answer.status_code}"


def check_leak(text: str, where: str) -> None:
    """Check that a text for people tells nothing of the server's insides."""
    leak = _LEAK.search(text)
    require(leak is None, f"{where} leaks server internals: {leak and leak[0]!r}")


def check_problem(
    answer: httpx.Response, statuses: Statuses, *, field: str | None = None, detail: str | None = None
) -> str:
    """Check an RFC 9457 problem: its status, an entry for `field` in `errors`, and `detail` in its detail."""
    where = f"{answer.request.method} {answer.request.url.path}"
    status = answer.status_code
    require(status in statuses, f"{where}: {status}, not {_format_statuses(statuses)}: {answer.text[:80]!r}")
    media_type = answer.headers.get("content-type", "")
    require(media_type.startswith(PROBLEM_JSON), f"{where}: {status} as {media_type!r}, not {PROBLEM_JSON}")
    check_cors(answer.headers, where)
    problem = answer.json()
    require(problem.get("status") == status, f"{where}: status {problem.get('status')} in the problem of a {status}")
    check_problem_object(problem, where)
    if field is not None:
        fields = [error.get("field") for error in problem.get("errors", [])]
        require(field in fields, f"{where}: errors name {fields}, not {field!r}")
    is_said = detail is None or detail in problem["detail"]
    require(is_said, f"{where}: the detail {problem['detail']!r} does not contain {detail!r}")
    return f"{status} {problem['code']}"


def _format_statuses(statuses: Statuses) -> str:
    return "a 4xx" if statuses == ANY_4XX else " or ".join(map(str, statuses))


def check_problem_object(problem: Mapping[str, Any], where: str) -> str:
    """Check the members of a problem object, also inside an event, and that it leaks nothing of the server."""
    for name, kind in PROBLEM_MEMBERS.items():
        require(isinstance(problem.get(name), kind), f"{where}: the problem has no {name}: {str(problem)[:80]}")
    check_leak(str(problem), f"{where}: the problem")
    return f"{problem['status']} {problem['code']}"


def check_cors(headers: httpx.Headers, where: str) -> str:
    """Check that one origin is allowed, that `*` never comes with credentials, and that `Vary` names Origin."""
    origin = headers.get("access-control-allow-origin")
    require(origin, f"{where}: no Access-Control-Allow-Origin")
    is_any = origin == "*" and "access-control-allow-credentials" in headers
    require(not is_any, f"{where}: Access-Control-Allow-Origin * with credentials")
    require("origin" in headers.get("vary", "").lower(), f"{where}: Vary does not name Origin")
    exposed = headers.get("access-control-expose-headers", "").lower()
    require("x-streaming-session-id" in exposed, f"{where}: X-Streaming-Session-Id is not exposed")
    return f"{where}: {origin}"


def check_stream_headers(headers: httpx.Headers) -> str:
    """Check the headers of a stream: no proxy may cache, transform or buffer it, and the turn id must be there."""
    media_type = headers.get("content-type", "")
    is_stream = re.fullmatch(r"text/event-stream; ?charset=utf-8", media_type, re.IGNORECASE)
    require(is_stream, f"Content-Type {media_type!r}")
    control = headers.get("cache-control", "")
    require({"no-cache", "no-transform"} <= set(re.split(r",\s*", control)), f"Cache-Control {control!r}")
    require(headers.get("x-accel-buffering") == "no", f"X-Accel-Buffering {headers.get('x-accel-buffering')!r}")
    turn_id = headers.get("x-streaming-session-id", "")
    require(re.fullmatch(r"[A-Za-z0-9_-]{1,118}", turn_id), f"X-Streaming-Session-Id {turn_id!r}")
    check_cors(headers, "the stream")
    return f"{media_type}, {control}, {turn_id[:12]}..."


def check_cookie(headers: httpx.Headers, *names: str) -> str:
    """Check that there is a cookie with one of these names (any name without them), closed to scripts and other sites.

    Its value is never part of the evidence.
    """
    cookies = headers.get_list("set-cookie")
    found = next((cookie for cookie in cookies if not names or cookie.partition("=")[0] in names), None)
    require(found, f"NO COOKIES received: no Set-Cookie for {' or '.join(names) or 'anything'}")
    name, *attributes = str(found).split(";")
    given = {attribute.strip().lower() for attribute in attributes}
    missing = [required for required in ("HttpOnly", "SameSite=Lax", "Path=/") if required.lower() not in given]
    require(not missing, f"the cookie {name.partition('=')[0]} lacks {', '.join(missing)}")
    return f"{name.partition('=')[0]}: {'; '.join(part.strip() for part in attributes)}"


def check_forward(
    states: Sequence[PolledState], order: Sequence[str], get_progress: Callable[[PolledState], int]
) -> str:
    """Check that status and progress of a polled job never go back, and that it ends with the last name in `order`."""
    seen = [state["status"] for state in states]
    unknown = [name for name in seen if name not in order]
    require(not unknown, f"status {unknown[:1]} is none of {', '.join(order)}")
    require(seen == sorted(seen, key=order.index), f"the status goes back: {' '.join(seen)}")
    require(seen[-1] == order[-1], f"the last status is {seen[-1]}, not {order[-1]}")
    progress = [get_progress(state) for state in states]
    require(progress == sorted(progress), f"the progress goes back: {progress}")
    return f"{' > '.join(dict.fromkeys(seen))}, progress {' '.join(map(str, dict.fromkeys(progress)))}"
