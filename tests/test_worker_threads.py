"""Work in threads: short work stays on the event loop, long work does not, and cancelling is safe."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from functools import partial

import pytest

from openapi_server.worker_threads import (
    INLINE_S_PER_ROUND,
    MAX_INLINE_CHARS,
    WORKER_THREADS,
    run_by_size,
    run_in_worker,
)


class FakeTimer:
    """The seconds that have passed, as the test says."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def get(self) -> float:
        return self.now_s


name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")


@pytest.mark.parametrize(("size", "is_inline"), [(0, True), (MAX_INLINE_CHARS, True), (MAX_INLINE_CHARS + 1, False)])
async def test_only_long_work_leaves_the_event_loop(size: int, is_inline: bool) -> None:
    """The way to a thread and back costs as much as reading a short text."""
    thread = await run_by_size(size, threading.get_ident)

    assert (thread == threading.get_ident()) == is_inline


async def test_work_sees_the_callers_context_and_its_errors_come_back() -> None:
    """A log line from a thread has the request's id."""
    name.set("Leo")

    assert await run_in_worker(name.get) == "Leo"
    with pytest.raises(ZeroDivisionError):
        await run_in_worker(lambda: 1 // 0)


async def test_work_of_a_cancelled_caller_that_has_not_begun_is_dropped() -> None:
    """The threads are free for others as soon as the work that runs has ended."""
    free, done = threading.Event(), []
    busy = [asyncio.create_task(run_in_worker(lambda: free.wait(10))) for _ in range(WORKER_THREADS)]
    waiting = asyncio.create_task(run_in_worker(lambda: done.append("late")))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.wait((waiting,))
    free.set()
    await asyncio.gather(*busy)

    assert waiting.cancelled()
    assert await run_in_worker(lambda: "next") == "next"
    assert done == []


async def test_hundreds_of_short_texts_do_not_come_between_another_callback_and_its_next_round() -> None:
    """Between two rounds of anybody else, they are read for a few milliseconds, and one text more."""
    clock = FakeTimer()
    read: list[int] = []
    most = 0

    def read_text(number: int) -> int:
        clock.now_s += 0.001
        read.append(number)
        return number

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("openapi_server.worker_threads.time.perf_counter", clock.get)
        texts = [asyncio.create_task(run_by_size(40, partial(read_text, number))) for number in range(200)]
        while len(read) < len(texts):
            before = len(read)
            await asyncio.sleep(0)
            most = max(most, len(read) - before)
        results = await asyncio.gather(*texts)

    assert most <= INLINE_S_PER_ROUND / 0.001 + 1
    assert read == results == list(range(200))


async def test_a_text_that_waits_sees_its_callers_context_and_its_error_comes_back() -> None:
    """As if it had been read at once."""
    before = asyncio.create_task(run_by_size(0, lambda: time.sleep(2 * INLINE_S_PER_ROUND)))
    await asyncio.sleep(0)

    async def call(caller: str) -> str:
        name.set(caller)
        return await run_by_size(0, name.get)

    failing = asyncio.create_task(run_by_size(0, lambda: 1 // 0))

    assert [*await asyncio.gather(call("Leo"), call("Bulan"))] == ["Leo", "Bulan"]
    with pytest.raises(ZeroDivisionError):
        await failing
    await before


async def test_a_text_of_a_caller_that_left_is_not_read() -> None:
    done: list[str] = []
    busy = asyncio.create_task(run_by_size(0, lambda: time.sleep(2 * INLINE_S_PER_ROUND)))
    waiting = asyncio.create_task(run_by_size(0, lambda: done.append("late")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((busy, waiting))

    assert waiting.cancelled()
    assert await run_by_size(0, lambda: "next") == "next"
    assert done == []
