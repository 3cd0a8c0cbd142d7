"""The events of a model server's body, however its bytes are cut and its lines are ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.protocols import KEEP_ALIVE, KeepAlive
from openapi_server.providers.event_stream import (
    MAX_EVENT_BYTES,
    EventReader,
    ServerSentEvent,
    parse_object,
    read_events,
)
from openapi_server.providers.failures import ResponseTooLarge

Events = list[ServerSentEvent | KeepAlive]
EVENT = ServerSentEvent("", "a")


def read(body: bytes, size: int | None = None) -> Events:
    reader = EventReader()
    found: Events = []
    for at in range(0, len(body), size or max(1, len(body))):
        found += reader.feed(body[at : at + (size or len(body))])
    return [*found, *reader.finish()]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata:b\n\n", [EVENT, ServerSentEvent("", "b")]),
        (b"event: ping\ndata: a\ndata:  b\n\n", [ServerSentEvent("ping", "a\n b")]),
        (b": comment\n\n:\ndata: a\n\n", [KEEP_ALIVE, KEEP_ALIVE, EVENT]),
        (b"\xef\xbb\xbfid: 1\nretry: 5\ndata: a\n\n", [EVENT]),
        # The last blank line is missing, and so is the last line end.
        (b"data: a\n", [EVENT]),
        (b"data: a", [EVENT]),
        (b"event: ping\n\ndata: a\n\n", [EVENT]),
        (b"data:\n\n", [ServerSentEvent("", "")]),
        # llama.cpp's own field, and JSON that is no stream.
        (b'error: {"code": 500}\n\n', [ServerSentEvent("error", '{"code": 500}')]),
        (b'{\n "choices":\n []}\n', [ServerSentEvent("", '{\n "choices":\n []}')]),
        (b'data: "\xe2\x80\xa8\xc2\x85\x0b\xff"\n\n', [ServerSentEvent("", '"\u2028\x85\x0b\ufffd"')]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_every_form_of_a_body_is_read(body: bytes, events: Events, line_end: bytes, size: int | None) -> None:
    """Lines may end in three ways (WHATWG HTML, section 9.2.6)."""
    assert read(body.replace(b"\n", line_end), size) == events


@given(parts=st.lists(st.sampled_from([b"data: a", b":", b"event: x", b"\n", b"\r", b"\r\n", b"{", b"\xc3", b"\xa4"])))
def test_the_events_do_not_depend_on_the_cuts(parts: list[bytes]) -> None:
    assert read(b"".join(parts), 1) == read(b"".join(parts))


@pytest.mark.parametrize(
    "body", [b"x" * MAX_EVENT_BYTES, b"data: a\n" * (MAX_EVENT_BYTES // 4), b"{\n" * MAX_EVENT_BYTES]
)
async def test_an_endless_event_is_refused(body: bytes) -> None:
    """It cannot fill the memory."""

    async def send() -> AsyncIterator[bytes]:
        yield body
        yield b"xx"

    with pytest.raises(ResponseTooLarge):
        _ = [event async for event in read_events(send())]


@pytest.mark.parametrize("data", ["", "[]", "null", "{", '{"a": ' * 50_000, "1"])
def test_what_is_no_object_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(data)
