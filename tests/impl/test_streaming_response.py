"""`SSEStreamer`: the unit test of the first front end, and what else it promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime

import pytest
from starlette.types import Message

from openapi_server.errors import ProviderFailed
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.records import Outcome, SessionRecord, TurnRecord
from openapi_server.turn import AgeGroup, TurnStatus
from tests.streams import check_order, events_of

NOW = datetime(2026, 11, 21, 10, 30, 40, tzinfo=UTC)


async def test_the_unit_test_of_the_ticket() -> None:
    """As it was written there."""
    streamer = SSEStreamer()
    formatted = streamer.format_sse(data='{"content": "Hello"}', event="message", id="123")
    assert "event: message\n" in formatted
    assert 'data: {"content": "Hello"}\n' in formatted
    assert formatted.endswith("\n\n")

    async def mock_generator() -> AsyncIterator[str]:
        yield "Hello "
        yield "World!"

    result = []
    async for event in streamer.stream_chat_response(mock_generator(), "session123", "lion_001"):
        result.append(event)  # noqa: PERF401  # as it was written there

    assert any("metadata" in e for e in result)
    assert any("complete" in e for e in result)


async def collect(stream: AsyncGenerator[str, None]) -> str:
    return "".join([piece async for piece in stream])


def as_stream(text: str) -> bytes:
    return b"retry: 2000\n" + text.encode()


async def test_any_text_becomes_a_whole_stream_of_the_contract() -> None:
    """Metadata, typing, one chunk a piece, and complete with the whole text; empty pieces say nothing."""

    async def pieces() -> AsyncIterator[str]:
        for piece in ("Hello ", "", "World!"):
            yield piece

    events = events_of(as_stream(await collect(SSEStreamer().stream_chat_response(pieces(), "s1", "lion_001"))))

    check_order([event.event for event in events])
    assert [event.data["content"] for event in events if event.event == "chunk"] == ["Hello ", "World!"]
    assert events[-1].data["fullResponse"] == "Hello World!"
    assert events[0].data["sessionId"] == "s1"


@pytest.mark.parametrize(
    ("error", "code"), [(OSError("secret"), "provider_failed"), (ProviderFailed(), "provider_failed")]
)
async def test_a_source_that_breaks_ends_in_an_error_event(error: Exception, code: str) -> None:
    """The client gets an end, and nothing of the source's own words."""

    async def pieces() -> AsyncIterator[str]:
        yield "Hello "
        raise error

    text = await collect(SSEStreamer().stream_chat_response(pieces(), "s1", "lion_001"))

    last = events_of(as_stream(text))[-1]
    assert (last.event, last.data["error"]["code"]) == ("error", code)
    assert "secret" not in text


async def test_typing_lasts_as_long_as_the_work() -> None:
    """Start before it, stop after it, with the real duration."""
    go = asyncio.Event()
    stream = SSEStreamer().stream_typing_indicator(go.wait())

    start = await anext(stream)
    go.set()
    stop = await anext(stream)

    assert '"status":"start"' in start
    assert '"status":"stop"' in stop
    assert '"durationMs":' in stop


async def test_a_history_is_told_in_order() -> None:
    """session, history for each turn, history_complete; an unanswered turn has a null reply."""

    async def turns() -> AsyncIterator[TurnRecord]:
        answered = Outcome(TurnStatus.SUCCEEDED, NOW, reply="Roar!")
        yield TurnRecord("turn_1", "s1", "lion_001", AgeGroup.ADULT, "Hi", "m", NOW, outcome=answered)
        yield TurnRecord("turn_2", "s1", "lion_001", AgeGroup.ADULT, "Bye", "m", NOW)

    session = SessionRecord("s1", "lion_001", None, NOW, NOW, turn_count=2)
    events = events_of((await collect(SSEStreamer().stream_conversation_history(session, turns()))).encode())

    assert [event.event for event in events] == ["session", "history", "history", "history_complete"]
    assert [event.data["assistantReply"] for event in events[1:3]] == ["Roar!", None]
    assert events[-1].data == {"totalMessages": 3}


class Wire:
    """The far side of an ASGI answer: what was sent, and when the client leaves."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.has_begun = asyncio.Event()
        self.leave = asyncio.Event()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.has_begun.set()


async def test_a_client_that_leaves_ends_the_stream_at_once() -> None:
    """The source is closed, not left waiting."""
    wire = Wire()
    was_closed = asyncio.Event()

    async def endless() -> AsyncGenerator[str, None]:
        try:
            yield "event: a\ndata: {}\n\n"
            await asyncio.Event().wait()
        finally:
            was_closed.set()

    answer = asyncio.create_task(SSEStreamer().create_sse_response(endless())({}, wire.receive, wire.send))
    await asyncio.wait_for(wire.has_begun.wait(), 1)
    wire.leave.set()
    await asyncio.wait_for(answer, 1)

    assert was_closed.is_set()


async def test_an_error_before_the_first_piece_comes_before_the_headers() -> None:
    """Until something was sent, an error can still become a status."""
    wire = Wire()

    async def broken() -> AsyncGenerator[str, None]:
        raise ProviderFailed
        yield ""

    with pytest.raises(ProviderFailed):
        await SSEStreamer().create_sse_response(broken())({}, wire.receive, wire.send)

    assert wire.sent == []
