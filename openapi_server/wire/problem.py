"""Problem objects (RFC 9457), which are the same in JSON answers and in error events."""

from __future__ import annotations

from contextvars import ContextVar

from openapi_server.models.errors import ChatError, Problem

PROBLEM_JSON = "application/problem+json"
root_path_of_request: ContextVar[str] = ContextVar("root_path_of_request", default="")
"""Under which path the request's proxies serve this server, such as `/zoo`. Problems are made in too many places of a
request to be told it one by one."""


def encode_problem(problem: Problem) -> dict[str, object]:
    """The problem object: members of the RFC, `code`, and, where they apply, `errors`, `turnId` and further details.

    >>> encode_problem(Problem("turn_not_found", 404, "No such turn", "No such turn."))["type"]
    '/problems/turn_not_found'
    """
    body: dict[str, object] = {
        "type": make_type(problem.code),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    if problem.errors:
        body["errors"] = [{"field": error.field, "message": error.message} for error in problem.errors]
    if problem.turn_id:
        body["turnId"] = problem.turn_id
    return body | dict(problem.details)


def make_type(code: str) -> str:
    """The `type` of a problem: where its kind is explained, as a reference with a full path (RFC 9457, section 3.1.1).

    It names no host, and begins with the path under which the request's proxies serve this server.
    """
    return f"{root_path_of_request.get()}/problems/{code}"


def encode_problem_type(error_type: type[ChatError]) -> dict[str, object]:
    """What a kind of problem means, and what to do about it."""
    return {
        "type": make_type(error_type.code),
        "code": error_type.code,
        "title": error_type.title,
        "status": error_type.status,
        "retryable": error_type.retryable,
        "meaning": error_type.meaning,
        "remedy": error_type.remedy,
    }
