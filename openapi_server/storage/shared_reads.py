"""One read of a store for all who ask at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from openapi_server.models.versioned_document import DocumentChanges


class SharedReads:
    """Reads of the changes since a version, one at a time. Belongs to one event loop.

    Callers that come while a read runs share the next one, so that each still sees all that was changed before it
    asked.
    """

    def __init__(self, read: Callable[[int], Awaitable[DocumentChanges]]) -> None:
        self._read = read
        # The reads that have not begun, by their `since`.
        self._next_reads: dict[int, asyncio.Task[DocumentChanges]] = {}
        self._lock = asyncio.Lock()

    async def get(self, since: int) -> DocumentChanges:
        read = self._next_reads.get(since)
        if read is None:
            read = self._next_reads[since] = asyncio.create_task(self._read_in_turn(since))
        return await asyncio.shield(read)

    async def _read_in_turn(self, since: int) -> DocumentChanges:
        try:
            await self._lock.acquire()
        finally:
            del self._next_reads[since]
        try:
            return await self._read(since)
        finally:
            self._lock.release()
