"""RFC 9457: how a problem looks, in a JSON answer and inside an error event alike."""

from __future__ import annotations

from openapi_server.models.errors import Problem

PROBLEM_JSON = "application/problem+json"


def encode_problem(problem: Problem) -> dict[str, object]:
    """Members of the problem object: the five of the RFC that we use, `code`, and what helps to mend it.

    >>> problem_object(Problem("turn_not_found", 404, "No such turn", "No such turn."))["type"]
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
