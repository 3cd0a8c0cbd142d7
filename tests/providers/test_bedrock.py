"""Bodies of Bedrock's streams: events pass as they are, and one that is too long ends the stream where it begins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.providers.bedrock import LimitedBody
from openapi_server.providers.event_stream import MAX_EVENT_BYTES
from openapi_server.providers.failures import ResponseTooLarge


class Body:
    """A body that comes in pieces, and counts those that were read."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.read = 0

    def stream(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece


def make_event(size: int) -> bytes:
    return size.to_bytes(4, "big") + b"x" * (size - 4)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(events=st.lists(st.integers(16, 60), max_size=6), sizes=st.lists(st.integers(0, 30), max_size=20))
def test_events_pass_unchanged(events: list[int], sizes: list[int]) -> None:
    """However the body is cut."""
    pieces = cut(b"".join(map(make_event, events)), sizes)

    assert list(LimitedBody(Body(pieces)).stream()) == pieces


@given(events=st.lists(st.integers(16, 60), max_size=6), sizes=st.lists(st.integers(1, 30), max_size=20))
def test_a_long_event_is_noticed_by_its_length(events: list[int], sizes: list[int]) -> None:
    """Not one byte of it is waited for."""
    before = b"".join(map(make_event, events))
    length = (MAX_EVENT_BYTES + 1).to_bytes(4, "big")
    body = Body([*cut(before + length, sizes), *[b"x" * 65_536] * 200])

    with pytest.raises(ResponseTooLarge):
        list(LimitedBody(body).stream())
    assert body.read <= len(sizes) + 1


def test_the_longest_event_passes() -> None:
    pieces = cut(make_event(MAX_EVENT_BYTES) + make_event(16), [65_536] * 16)

    assert b"".join(LimitedBody(Body(pieces)).stream()) == b"".join(pieces)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0\0", b"\0\0\0\1\0\0", b"\0\0\0\4" * 9])
def test_what_is_no_event_is_left_to_the_library(body: bytes) -> None:
    assert b"".join(LimitedBody(Body([body])).stream()) == body
