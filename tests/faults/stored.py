"""What is really stored, asked of the file itself when no server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openapi_server.clock import SystemClock
from openapi_server.storage.sqlite.store import SqliteStore


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(folder / "zoo.sqlite3", SystemClock())
    try:
        yield store
    finally:
        await store.close()
