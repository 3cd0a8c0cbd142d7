"""Cursors: opaque to clients, and never trusted."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.errors import InvalidInput
from openapi_server.models.page import decode_cursor, encode_cursor

ids = st.text("abcXYZ019_-:.+", max_size=128)


@given(at=ids, session_id=ids, position=st.integers(0, 2**63 - 1))
def test_a_cursor_of_ours_comes_back(at: str, session_id: str, position: int) -> None:
    """Whatever place it marks."""
    assert decode_cursor(encode_cursor(at, session_id), str, str) == [at, session_id]
    assert decode_cursor(encode_cursor(position), int) == [position]


@given(at=ids, session_id=ids)
def test_a_cursor_can_stand_in_an_address(at: str, session_id: str) -> None:
    """No character of it needs escaping, and it is within the 512 that the API takes."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,512}", encode_cursor(at, session_id))


@given(cursor=st.text(max_size=60) | st.text("ABCWyzIiwx019_-=", max_size=60))
def test_anything_else_is_refused_by_name(cursor: str) -> None:
    """A list of the right kinds, or `InvalidInput`: there is no third way out."""
    try:
        place = decode_cursor(cursor, str, int)
    except InvalidInput as refusal:
        place = ["refused", len(refusal.errors)]
    assert [type(part) for part in place] == [str, int]


@pytest.mark.parametrize("kinds", [(str,), (int, str), (str, str), ()])
def test_a_cursor_of_another_listing_is_refused(kinds: tuple[type, ...]) -> None:
    """Each listing marks places in its own way."""
    with pytest.raises(InvalidInput, match="not one of ours"):
        decode_cursor(encode_cursor("2026-11-21", 7), *kinds)
