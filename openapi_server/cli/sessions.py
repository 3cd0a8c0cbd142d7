"""`zoochat sessions`: deletes what has expired, and its copies in the database's files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from openapi_server.cli.context import read_settings
from openapi_server.config import Settings

if TYPE_CHECKING:
    from openapi_server.protocols import Store


@dataclass(frozen=True, slots=True)
class DeletedCounts:
    """How much was deleted. `is_vacuumed`: no copy of it is left in the database's files."""

    sessions: int
    turns: int
    is_vacuumed: bool


@click.group()
def sessions() -> None:
    """Manage the stored sessions. Works while servers run."""


@sessions.command()
@click.option("--batch", default=500, show_default=True, help="How many to delete in one transaction.")
def purge(batch: int) -> None:
    """Delete expired sessions and turns older than RETENTION_DAYS, and free their space.

    They cannot be read any more in any case. The server deletes them every hour, but it vacuums the files of a large
    database only here, because nobody can write meanwhile.
    """
    settings = read_settings()
    deleted = asyncio.run(_delete_expired(settings, batch))
    click.echo(f"Cleaned up {deleted.sessions} expired sessions")
    if settings.retention:
        click.echo(f"Deleted {deleted.turns} turns older than {settings.retention_days} days")
    if not deleted.is_vacuumed:
        click.echo("Another connection was reading: copies stay in the files until the next purge", err=True)


async def _delete_expired(settings: Settings, batch: int) -> DeletedCounts:
    from openapi_server.clock import SystemClock
    from openapi_server.storage.factory import open_stores

    async with open_stores(settings, SystemClock()) as stores:
        store = stores.sessions
        sessions = await _delete_expired_sessions(store, batch)
        turns = 0
        while deleted := await store.delete_old_turns(batch):
            turns += deleted
        return DeletedCounts(sessions, turns, await store.vacuum())


async def _delete_expired_sessions(store: Store, batch: int) -> int:
    """In batches, because the writes of running servers wait for every transaction."""
    from rich.console import Console
    from rich.progress import Progress

    done = 0
    # The progress bar is for people; only the result goes to standard output.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Expired sessions", total=await store.count_expired_sessions())
        while deleted := await store.delete_expired_sessions(batch):
            done += deleted
            progress.update(task, completed=done)
    return done
