"""Which parameters an error refuses, as servers and gateways write it."""

from __future__ import annotations

import pytest

from openapi_server.providers.refused_parameters import find_refused

SENT = ("max_tokens", "stop", "stream_options", "system", "temperature")


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ({"message": "Unsupported parameter: 'max_tokens'.", "param": "max_tokens"}, {"max_tokens"}),
        (
            {"error": {"message": "'temperature' does not support 0.2. Use stop.", "param": "temperature"}},
            {"temperature"},
        ),
        (
            {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
            {"stream_options"},
        ),
        (
            {"detail": [{"loc": ["body", name], "msg": "extra field"} for name in ("stop", "temperature")]},
            {"stop", "temperature"},
        ),
        ("Unrecognized request arguments supplied: stop, stream_options", {"stop", "stream_options"}),
        ("json: unknown field `stop`", {"stop"}),
        ({"error": "System role not supported"}, {"system"}),
        ("system role not supported", {"system"}),
        (
            {"message": "'messages[0].role' does not support 'system' with this model.", "param": "messages[0].role"},
            {"system"},
        ),
        ("Please stop.", set()),
        ("The response was filtered", set()),
        ("max_tokens_to_sample: unknown field", set()),
        ("maximum context length is 4096 tokens, max_tokens must be lower", set()),
        ("", set()),
        (None, set()),
        ({"error": {1, 2}}, set()),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_the_parameters_that_are_named_are_refused(answer: object, refused: set[str], status: int) -> None:
    assert find_refused(SENT, status, answer) == refused


@pytest.mark.parametrize("status", [None, 200, 401, 404, 429, 500])
def test_other_statuses_refuse_no_parameter(status: int | None) -> None:
    assert not find_refused(SENT, status, "Unsupported parameter: 'max_tokens'")


def test_parameters_that_were_not_sent_are_not_refused() -> None:
    """The other name of a parameter may be recommended."""
    assert find_refused(["max_tokens"], 400, "Unknown field max_tokens; use max_completion_tokens") == {"max_tokens"}
    assert not find_refused([], 400, "Unknown field max_tokens")
