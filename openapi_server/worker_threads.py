"""A few threads for work that would keep the event loop busy for too long, and an order for what stays on it.

Reading a visitor's text takes up to some microseconds a character. Short texts are read on the event loop, because the
way to a thread and back costs as much as reading them; longer ones on one of `WORKER_THREADS`. There are few: they
share the one interpreter, so more would only make the event loop wait longer for its turn.

Many short texts are as much work as a long one. So in one round of the event loop short texts are read for at most
`INLINE_S_PER_ROUND`, and the others wait for the next one: hundreds of turns that are ready at once do not come between
a health check and its answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

WORKER_THREADS = 2

MAX_INLINE_CHARS = 500
"""Texts up to this length are read on the event loop: a question has 40 characters, and 500 take some milliseconds."""

INLINE_S_PER_ROUND = 0.003
"""How long short texts are read in one round of the event loop, in seconds; the last of them may take longer."""


class _InlineWork:
    """Runs short work on one event loop, in the order in which it comes."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._used_s = 0.0
        self._is_scheduled = False

    async def run(self, work: Callable[[], T]) -> T:
        if not self._waiting and self._used_s < INLINE_S_PER_ROUND:
            self._schedule()
            return self._measure(work)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((done, partial(contextvars.copy_context().run, work)))
        result: T = await done
        return result

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._is_scheduled = False
        self._used_s = 0.0
        while self._waiting and self._used_s < INLINE_S_PER_ROUND:
            done, work = self._waiting.popleft()
            if done.done():
                # Its caller was cancelled.
                continue
            try:
                done.set_result(self._measure(work))
            except Exception as error:
                done.set_exception(error)
        if self._waiting or self._used_s:
            self._schedule()

    def _measure(self, work: Callable[[], T]) -> T:
        began_s = time.perf_counter()
        try:
            return work()
        finally:
            self._used_s += time.perf_counter() - began_s


_inline: WeakKeyDictionary[asyncio.AbstractEventLoop, _InlineWork] = WeakKeyDictionary()
_threads = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="worker")


def count_waiting() -> int:
    """How many pieces of work wait for a thread now."""
    return _threads._work_queue.qsize()


async def run_in_worker(work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread, with the caller's context variables.

    A caller that is cancelled does not wait: work that has not begun is dropped, and the result of other work, too. So
    `work` must change nothing that outlives it.
    """
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, context.run, work)


async def run_inline(work: Callable[[], T]) -> T:
    """The result of `work`, run on the event loop: now, or when what waits for the next rounds has run."""
    loop = asyncio.get_running_loop()
    inline = _inline.get(loop)
    if inline is None:
        inline = _inline[loop] = _InlineWork()
    return await inline.run(work)


async def run_by_size(size: int, work: Callable[[], T], max_inline: int = MAX_INLINE_CHARS) -> T:
    """The result of `work`, run here when what it reads has at most `max_inline` characters, bytes or items."""
    return await (run_inline(work) if size <= max_inline else run_in_worker(work))
