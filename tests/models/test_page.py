"""Cursors of listings: a round trip, and the refusal of everything else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.errors import InvalidInput
from openapi_server.models.page import Page, decode_cursor, encode_cursor, make_page

ids = st.text("abcXYZ019_-:.+", max_size=128)


@given(at=ids, session_id=ids, position=st.integers(0, 2**63 - 1))
def test_a_cursor_decodes_to_the_position_it_encodes(at: str, session_id: str, position: int) -> None:
    """For the types of positions in use."""
    assert decode_cursor(encode_cursor(at, session_id), str, str) == [at, session_id]
    assert decode_cursor(encode_cursor(position), int) == [position]


@given(at=ids, session_id=ids)
def test_a_cursor_needs_no_escaping_in_a_url(at: str, session_id: str) -> None:
    """And it is not longer than the 512 characters that the API accepts."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,512}", encode_cursor(at, session_id))


@given(cursor=st.text(max_size=60) | st.text("ABCWyzIiwx019_-=", max_size=60))
def test_any_other_text_is_refused(cursor: str) -> None:
    """It decodes to values of the expected types, or `InvalidInput` is raised."""
    try:
        position = decode_cursor(cursor, str, int)
    except InvalidInput as refusal:
        position = ["refused", len(refusal.errors)]
    assert [type(part) for part in position] == [str, int]


@pytest.mark.parametrize("types", [(str,), (int, str), (str, str), ()])
def test_a_cursor_of_another_listing_is_refused(types: tuple[type, ...]) -> None:
    """Each listing has positions of its own types."""
    with pytest.raises(InvalidInput, match="not one of ours"):
        decode_cursor(encode_cursor("2026-11-21", 7), *types)


@pytest.mark.parametrize(("count", "numbers", "next_position"), [(0, (), None), (2, (1, 2), None), (3, (1, 2), 2)])
def test_a_row_beyond_the_limit_means_another_page(
    count: int, numbers: tuple[int, ...], next_position: int | None
) -> None:
    """It is not in this page; the cursor is the position of the last row that is."""
    rows = [{"number": number} for number in range(1, count + 1)]
    page = make_page(rows, 2, lambda row: row["number"], "number")

    assert page == Page(numbers, None if next_position is None else encode_cursor(next_position))
