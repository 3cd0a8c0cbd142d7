"""A few threads for work that would keep the event loop busy for too long.

Reading a visitor's text takes up to some microseconds a character. Short texts are read on the event loop, because the
way to a thread and back costs as much as reading them; longer ones on one of `WORKER_THREADS`. There are few: they
share the one interpreter, so more would only make the event loop wait longer for its turn.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

WORKER_THREADS = 2

MAX_INLINE_CHARS = 500
"""Texts up to this length are read on the event loop: a question has 40 characters, and 500 take some milliseconds."""

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


async def run_by_size(size: int, work: Callable[[], T], max_inline: int = MAX_INLINE_CHARS) -> T:
    """The result of `work`, run here when what it reads has at most `max_inline` characters, bytes or items."""
    return work() if size <= max_inline else await run_in_worker(work)
