"""Streams of blocking libraries on the event loop: in order, bounded read-ahead, and no thread is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from openapi_server.providers.thread_stream import MAX_QUEUED, ThreadStream

TIMEOUT_S = 10


class NumberSource:
    """A blocking iterator of numbers; `was_closed` is set by `close`."""

    def __init__(self, limit: int, error: Exception | None = None) -> None:
        self.limit = limit
        self.error = error
        self.given = 0
        self.was_closed = threading.Event()

    def __iter__(self) -> Iterator[int]:
        while self.given < self.limit:
            self.given += 1
            yield self.given
        if self.error:
            raise self.error

    def close(self) -> None:
        self.was_closed.set()


async def wait_until_closed(source: NumberSource) -> bool:
    return await asyncio.to_thread(source.was_closed.wait, TIMEOUT_S)


async def test_events_come_in_their_order_and_then_the_end() -> None:
    """Also many more than the queue may hold."""
    source = NumberSource(5 * MAX_QUEUED)

    assert [event async for event in ThreadStream(lambda: source)] == list(range(1, 5 * MAX_QUEUED + 1))
    assert await wait_until_closed(source)


async def test_an_error_comes_after_the_events_before_it() -> None:
    """It is raised for the consumer, not in the thread."""
    source = NumberSource(2, OSError("gone"))
    heard = []
    with pytest.raises(OSError, match="gone"):  # noqa: PT012  # the events before it matter, too
        async for event in ThreadStream(lambda: source):
            heard.append(event)  # noqa: PERF401

    assert heard == [1, 2]
    assert await wait_until_closed(source)


async def test_an_error_before_the_first_event_comes_too() -> None:
    """As when the connection is refused."""

    def ask() -> NumberSource:
        raise OSError("nobody is there")

    with pytest.raises(OSError, match="nobody is there"):
        await anext(ThreadStream(ask))


async def test_the_thread_does_not_run_ahead() -> None:
    """A slow reader costs no memory; closing wakes a thread that waits for a free slot."""
    source = NumberSource(1_000_000)
    listening = ThreadStream(lambda: source)
    assert await anext(listening) == 1
    async with asyncio.timeout(TIMEOUT_S):
        while source.given <= MAX_QUEUED:  # noqa: ASYNC110  # a thread has no event for us
            await asyncio.sleep(0)

    listening.close()
    assert await wait_until_closed(source)
    assert source.given <= MAX_QUEUED + 2


async def test_closing_before_the_answer_closes_it_when_it_comes() -> None:
    """No event is read from it."""
    source = NumberSource(1_000_000)
    has_asked, may_answer = threading.Event(), threading.Event()

    def ask() -> NumberSource:
        has_asked.set()
        may_answer.wait(TIMEOUT_S)
        return source

    listening = ThreadStream(ask)
    await asyncio.to_thread(has_asked.wait, TIMEOUT_S)
    listening.close()
    listening.close()
    may_answer.set()

    assert await wait_until_closed(source)
    assert source.given == 0
