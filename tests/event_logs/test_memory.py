"""The event logs in memory: what a finished turn takes until it is forgotten."""

from __future__ import annotations

import tracemalloc

from openapi_server.clock import SystemClock
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.models.turn_events import Chunk
from openapi_server.wire.convo import CONVO
from tests.support.examples import STARTED

CHUNKS = 10_000
MAX_BYTES_FOR_EACH = 350


async def test_a_chunk_that_one_reader_has_read_takes_few_bytes() -> None:
    """Without its frame, which takes as much as the entry with its text. Of thousands of turns every chunk is kept."""
    log = MemoryEventLog(SystemClock())
    await log.create("turn_a")
    await log.append("turn_a", [STARTED])
    tail = await log.open_tail("turn_a")
    assert tail is not None
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sent = 0
        for index in range(1, CHUNKS + 1):
            await log.append("turn_a", [Chunk(index, f"word{index} ")])
            sent += len(CONVO.encode_entries(await tail.read(60)))
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert kept / CHUNKS < MAX_BYTES_FOR_EACH
    assert sent / CHUNKS > 80
