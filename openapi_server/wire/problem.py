"""Problem objects (RFC 9457), which are the same in JSON answers and in error events."""

from __future__ import annotations

from openapi_server.models.errors import Problem

PROBLEM_JSON = "application/problem+json"


def encode_problem(problem: Problem) -> dict[str, object]:
    """The problem object: members of the RFC, `code`, and, where they apply, `errors`, `turnId` and further details.

    >>> encode_problem(Problem("turn_not_found", 404, "No such turn", "No such turn."))["type"]
    'urn:problem:zoochat:turn_not_found'
    """
    body: dict[str, object] = {
        "type": f"urn:problem:zoochat:{problem.code}",
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
