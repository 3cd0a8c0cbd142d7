"""Listening: events of a library that blocks, read in a thread, taken on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

# How far the thread may read ahead of whoever takes the events.
MAX_QUEUED = 16


class ThreadStream:
    """One stream in a thread of its own; iterate over it once. `close` ends it, and the connection behind it.

    The thread is a daemon: one that still waits for the head of an answer does not keep the process from ending.
    """

    def __init__(self, open_stream: Callable[[], Iterable[Any]]) -> None:
        self._open_stream = open_stream
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._free_slots = threading.Semaphore(MAX_QUEUED)
        self._is_closed = threading.Event()
        self._stream: Any = None
        threading.Thread(target=self._run, name="listening", daemon=True).start()

    def __aiter__(self) -> ThreadStream:
        return self

    async def __anext__(self) -> Any:
        event = await self._queue.get()
        self._free_slots.release()
        if isinstance(event, Exception):
            raise event
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Never blocks: the thread closes the stream itself, once it is woken."""
        self._is_closed.set()
        self._free_slots.release()
        # Only this wakes a thread that is waiting for bytes; `close` of the stream would wait with it. The streams of
        # botocore do not offer it themselves, and one that is over already has nothing to shut down.
        with suppress(AttributeError, ValueError, RuntimeError, OSError):
            self._stream._raw_stream.shutdown()

    def _run(self) -> None:
        try:
            self._stream = self._open_stream()
            try:
                for event in () if self._is_closed.is_set() else self._stream:
                    if not self._put(event):
                        return
            finally:
                self._stream.close()
        except Exception as error:  # whoever takes the events is waiting
            self._put(error)
        else:
            self._put(None)

    def _put(self, event: object) -> bool:
        """Wait for room, and hand it over; False when nobody takes it any more."""
        self._free_slots.acquire()
        if self._is_closed.is_set():
            return False
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)
            return True
        return False
