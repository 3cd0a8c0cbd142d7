"""What an answer has to be that is no stream: headers that every answer has, cookies, and the shape of a problem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

from openapi_server.devtools.check.findings import require

PROBLEM_JSON = "application/problem+json"
PROBLEM_MEMBERS = {"type": str, "title": str, "status": int, "detail": str, "code": str}

# The statuses that an answer may have.
Statuses = range | tuple[int, ...]
ANY_4XX = range(400, 500)

# Nobody's own text but ours: a traceback, a page of HTML, a driver's or a provider's words.
_LEAK = re.compile(
    r"Traceback \(most recent|File \"[^\"]+\", line \d+|<!doctype|<html|\.py\b|0x[0-9a-f]{8}", re.IGNORECASE
)


def check_problem(answer: httpx.Response, due: Statuses, *, field: str | None = None, says: str | None = None) -> str:
    """An RFC 9457 problem with a status that is due; `errors` names the `field`, and the detail says what `says` is."""
    where = f"{answer.request.method} {answer.request.url.path}"
    status = answer.status_code
    require(status in due, f"{where}: {status} where {_format_statuses(due)} is due: {answer.text[:80]!r}")
    kind = answer.headers.get("content-type", "")
    require(kind.startswith(PROBLEM_JSON), f"{where}: {status} as {kind!r}, not {PROBLEM_JSON}")
    check_cors(answer.headers, where)
    problem = answer.json()
    require(problem.get("status") == status, f"{where}: status {problem.get('status')} in the problem of a {status}")
    check_problem_object(problem, where)
    if field is not None:
        named = [error.get("field") for error in problem.get("errors", [])]
        require(field in named, f"{where}: errors name {named}, not {field!r}")
    require(says is None or says in problem["detail"], f"{where}: {problem['detail']!r} does not say {says!r}")
    return f"{status} {problem['code']}"


def _format_statuses(due: Statuses) -> str:
    return "a 4xx" if due == ANY_4XX else " or ".join(map(str, due))


def check_problem_object(problem: Mapping[str, Any], where: str) -> str:
    """The members of a problem object, wherever it stands; nothing of the server's inside in it."""
    for name, kind in PROBLEM_MEMBERS.items():
        require(isinstance(problem.get(name), kind), f"{where}: the problem has no {name}: {str(problem)[:80]}")
    leak = _LEAK.search(str(problem))
    require(leak is None, f"{where}: the problem shows the server's inside: {leak and leak[0]!r}")
    return f"{problem['status']} {problem['code']}"


def check_cors(headers: httpx.Headers, where: str) -> str:
    """One origin, never any with credentials, and a `Vary` that keeps caches from mixing them up."""
    origin = headers.get("access-control-allow-origin")
    require(origin, f"{where}: no Access-Control-Allow-Origin")
    is_any = origin == "*" and "access-control-allow-credentials" in headers
    require(not is_any, f"{where}: Access-Control-Allow-Origin * with credentials")
    require("origin" in headers.get("vary", "").lower(), f"{where}: Vary does not name Origin")
    exposed = headers.get("access-control-expose-headers", "").lower()
    require("x-streaming-session-id" in exposed, f"{where}: X-Streaming-Session-Id is not exposed")
    return f"{where}: {origin}"


def check_stream_headers(headers: httpx.Headers) -> str:
    """What every stream says of itself, so that nothing between server and reader keeps it or holds it back."""
    kind = headers.get("content-type", "")
    require(re.fullmatch(r"text/event-stream; ?charset=utf-8", kind, re.IGNORECASE), f"Content-Type {kind!r}")
    control = headers.get("cache-control", "")
    require({"no-cache", "no-transform"} <= set(re.split(r",\s*", control)), f"Cache-Control {control!r}")
    require(headers.get("x-accel-buffering") == "no", f"X-Accel-Buffering {headers.get('x-accel-buffering')!r}")
    turn_id = headers.get("x-streaming-session-id", "")
    require(re.fullmatch(r"[A-Za-z0-9_-]{1,118}", turn_id), f"X-Streaming-Session-Id {turn_id!r}")
    check_cors(headers, "the stream")
    return f"{kind}, {control}, {turn_id[:12]}..."


def check_cookie(headers: httpx.Headers, *names: str) -> str:
    """A cookie by one of these names (any, when none is given) that no script and no foreign page can use."""
    cookies = headers.get_list("set-cookie")
    found = next((cookie for cookie in cookies if not names or cookie.partition("=")[0] in names), None)
    require(found, f"NO COOKIES received: no Set-Cookie for {' or '.join(names) or 'anything'}")
    name, *attributes = str(found).split(";")
    given = {attribute.strip().lower() for attribute in attributes}
    missing = [due for due in ("HttpOnly", "SameSite=Lax", "Path=/") if due.lower() not in given]
    require(not missing, f"the cookie {name.partition('=')[0]} lacks {', '.join(missing)}")
    return f"{name.partition('=')[0]}: {'; '.join(part.strip() for part in attributes)}"
