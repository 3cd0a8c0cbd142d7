"""Work in threads: short work stays on the event loop, long work does not, and cancelling is safe."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from openapi_server.worker_threads import MAX_INLINE_CHARS, WORKER_THREADS, run_by_size, run_in_worker

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
