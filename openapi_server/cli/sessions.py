"""Purging: delete what is over or too old, and its copies in the files, with a bar that says how far it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from openapi_server.clock import SystemClock
from openapi_server.config import Settings
from openapi_server.protocols import Store
from openapi_server.storage.sqlite.store import SqliteStore


@dataclass(frozen=True, slots=True)
class DeletedCounts:
    """How much was deleted. `is_tidy`: no copy of it is left in the database's files."""

    sessions: int
    turns: int
    is_tidy: bool


def delete_expired(settings: Settings, batch: int) -> DeletedCounts:
    """Delete every session that is over, and every turn that is too old. Servers may run meanwhile."""
    return asyncio.run(_delete_expired(settings, batch))


async def _delete_expired(settings: Settings, batch: int) -> DeletedCounts:
    store = await SqliteStore.open(settings.sqlite_path, SystemClock(), settings.retention)
    try:
        sessions = await _delete_sessions(store, batch)
        turns = 0
        while forgotten := await store.delete_old_turns(batch):
            turns += forgotten
        return DeletedCounts(sessions, turns, await store.vacuum())
    finally:
        await store.close()


async def _delete_sessions(store: Store, batch: int) -> int:
    """In batches, because every transaction keeps the servers' writes waiting."""
    done = 0
    # The bar is for a person who watches; what is piped on is the result alone.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Expired sessions", total=await store.count_expired_sessions())
        while purged := await store.delete_expired_sessions(batch):
            done += purged
            progress.update(task, completed=done)
    return done
