"""Reads a blocking iterator in a thread, for consumption on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

# How many events the thread may read ahead.
MAX_QUEUED = 16


class ThreadStream:
    """The events of one stream, read in a thread; iterate once. `close` ends the thread and closes the connection.

    `open_stream` is called in the thread; its result must have `close`. The thread is a daemon, so one that still waits
    for a response does not keep the process from ending.
    """

    def __init__(self, open_stream: Callable[[], Iterable[Any]]) -> None:
        self._open_stream = open_stream
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._free_slots = threading.Semaphore(MAX_QUEUED)
        self._is_closed = threading.Event()
        self._stream: Any = None
        threading.Thread(target=self._run, name="provider-stream", daemon=True).start()

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
        """Stop reading. Never blocks: the thread closes the stream itself once it wakes up."""
        self._is_closed.set()
        self._free_slots.release()
        # Only a shutdown of the socket wakes a thread that waits for bytes; the stream's own `close` would wait, too.
        # botocore's streams have no public method for it; a stream that has ended raises one of these errors.
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
        except Exception as error:  # the consumer is waiting, and gets the error
            self._put(error)
        else:
            self._put(None)

    def _put(self, event: object) -> bool:
        """Wait for a free slot and queue the event; false when the consumer has closed the stream."""
        self._free_slots.acquire()
        if self._is_closed.is_set():
            return False
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)
            return True
        return False
