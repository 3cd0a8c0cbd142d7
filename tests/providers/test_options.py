"""What servers send is read with care."""

from __future__ import annotations

import pytest

from openapi_server.providers.options import MAX_TOKEN_COUNT, parse_token_count


@pytest.mark.parametrize("count", [0, 1, MAX_TOKEN_COUNT])
def test_a_count_is_taken(count: int) -> None:
    assert parse_token_count(count) == count


@pytest.mark.parametrize(
    "value", [None, True, False, -1, 1.0, float("nan"), "12", [], {}, MAX_TOKEN_COUNT + 1, 2**60, 10**30, -(10**30)]
)
def test_what_is_no_count_is_not(value: object) -> None:
    assert parse_token_count(value) is None
