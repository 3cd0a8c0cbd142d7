"""Problem objects (RFC 9457), in JSON answers and in error events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openapi_server.models import errors
from openapi_server.models.errors import ChatError, FieldError, Problem
from openapi_server.wire.convo import encode_error
from openapi_server.wire.problem import PROBLEM_JSON, encode_problem
from tests.support.contract import assert_conforms


def family(kind: type[ChatError] = ChatError) -> Iterator[type[ChatError]]:
    if kind.__module__ == errors.__name__:
        yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def _name(kind: type[ChatError]) -> str:
    return kind.__name__


ERRORS: list[type[ChatError]] = sorted(family(), key=_name)
each_error = pytest.mark.parametrize("error", ERRORS, ids=_name)


@each_error
def test_every_error_of_ours_conforms_to_the_schema(error: type[ChatError]) -> None:
    """As a JSON answer and inside a stream, with all that can be said and with the least."""
    full = error("Ask again.", errors=(FieldError("message", "is required"),), turn_id="turn_a").problem

    for problem in (error().problem, full):
        assert_conforms(encode_problem(problem), "Problem")
        assert_conforms(encode_error(problem), "StreamProblem")


@each_error
def test_every_error_says_what_it_is(error: type[ChatError]) -> None:
    """A code for programs, a title that is the same each time, a sentence for people, a status that means it."""
    told = encode_problem(error().problem)

    assert told["type"] == f"/problems/{error.code}"
    assert told["code"] == error.code
    assert told["status"] == error.status
    assert 400 <= error.status <= 599
    assert (told["title"], told["detail"]) == (error.title, f"{error.title}.")


def test_no_two_errors_share_a_code() -> None:
    """A program that reads the code must know which one it was."""
    codes = [kind.code for kind in family()]

    assert len(codes) == len(set(codes)) > 15


def test_nothing_optional_is_shown_empty() -> None:
    """`errors` and `turnId` are there when they help, and absent otherwise."""
    assert encode_problem(Problem("turn_not_found", 404, "No such turn", "No such turn.")) == {
        "type": "/problems/turn_not_found",
        "title": "No such turn",
        "status": 404,
        "detail": "No such turn.",
        "code": "turn_not_found",
    }


def test_fields_and_the_turn_are_named_in_order() -> None:
    """The first thing that is wrong stands first."""
    found = (FieldError("message", "is required"), FieldError("animalId", "must be a text"))
    told = encode_problem(ChatError(errors=found, turn_id="turn_a").problem)

    assert told["errors"] == [
        {"field": "message", "message": "is required"},
        {"field": "animalId", "message": "must be a text"},
    ]
    assert told["turnId"] == "turn_a"


def test_only_a_stream_says_whether_to_try_again() -> None:
    """In other answers the status and `Retry-After` say it."""
    problem = errors.ProviderFailed().problem

    assert "retryable" not in encode_problem(problem)
    assert encode_error(problem) == encode_problem(problem) | {"retryable": True}


def test_problems_have_a_media_type_of_their_own() -> None:
    """RFC 9457, section 3."""
    assert PROBLEM_JSON == "application/problem+json"
