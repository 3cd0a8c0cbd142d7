"""Events of a blocking library on the event loop: in order, not too far ahead, and no thread stays behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from openapi_server.providers.thread_stream import MAX_QUEUED, ThreadStream

PATIENCE_S = 10


class Counts:
    """A blocking source of numbers; `was_closed` once it was."""

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


async def ended(source: Counts) -> bool:
    return await asyncio.to_thread(source.was_closed.wait, PATIENCE_S)


async def test_events_come_in_their_order_and_then_the_end() -> None:
    """However many more there are than may wait."""
    source = Counts(5 * MAX_QUEUED)

    assert [event async for event in ThreadStream(lambda: source)] == list(range(1, 5 * MAX_QUEUED + 1))
    assert await ended(source)


async def test_an_error_comes_after_the_events_before_it() -> None:
    """To whoever takes the events, not to the thread's own end."""
    source = Counts(2, OSError("gone"))
    heard = []
    with pytest.raises(OSError, match="gone"):  # noqa: PT012  # the events before it matter, too
        async for event in ThreadStream(lambda: source):
            heard.append(event)  # noqa: PERF401

    assert heard == [1, 2]
    assert await ended(source)


async def test_an_error_before_the_first_event_comes_too() -> None:
    """As when nobody answers."""

    def ask() -> Counts:
        raise OSError("nobody is there")

    with pytest.raises(OSError, match="nobody is there"):
        await anext(ThreadStream(ask))


async def test_the_thread_does_not_run_ahead() -> None:
    """A visitor who reads slowly costs no memory; closing wakes a thread that waits for room."""
    source = Counts(1_000_000)
    listening = ThreadStream(lambda: source)
    assert await anext(listening) == 1
    async with asyncio.timeout(PATIENCE_S):
        while source.given <= MAX_QUEUED:  # noqa: ASYNC110  # a thread has no event for us
            await asyncio.sleep(0)

    listening.close()
    assert await ended(source)
    assert source.given <= MAX_QUEUED + 2


async def test_closing_before_the_answer_closes_it_when_it_comes() -> None:
    """And takes nothing from it."""
    source = Counts(1_000_000)
    has_asked, may_answer = threading.Event(), threading.Event()

    def ask() -> Counts:
        has_asked.set()
        may_answer.wait(PATIENCE_S)
        return source

    listening = ThreadStream(ask)
    await asyncio.to_thread(has_asked.wait, PATIENCE_S)
    listening.close()
    listening.close()
    may_answer.set()

    assert await ended(source)
    assert source.given == 0
