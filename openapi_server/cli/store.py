"""`zoochat store`: copies everything from one store to the other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from openapi_server.cli.context import print_table, read_settings
from openapi_server.config import Settings

if TYPE_CHECKING:
    from openapi_server.storage.dynamodb.batches_and_transactions import Database

STORES = click.Choice(("sqlite", "dynamodb"))


@click.group()
def store() -> None:
    """Manage the store as a whole."""


@store.command()
@click.argument("source", type=STORES)
@click.argument("target", type=STORES)
def copy(source: str, target: str) -> None:
    """Copy everything from SOURCE to TARGET: `zoochat store copy sqlite dynamodb`, or back.

    Stop all servers first. The target must be empty. A copy that was stopped goes on when it is started again. At the
    end both sides are counted; exit code 1 where they differ.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from openapi_server.models.errors import StoreUnavailable
    from openapi_server.storage.copying import CopyRefused
    from openapi_server.storage.dynamodb.batches_and_transactions import Database, open_client
    from openapi_server.storage.dynamodb.opening import explain_failure, get_names

    if source == target:
        raise click.UsageError("SOURCE and TARGET are the same store.")
    settings = read_settings()
    location = settings.dynamodb_location
    try:
        database = Database(open_client(location.region, location.endpoint), get_names(location))
        counts = _copy(settings, database, to_dynamodb=target == "dynamodb")
        database.client.close()
    except CopyRefused as error:
        raise click.ClickException(str(error)) from None
    except (BotoCoreError, ClientError, StoreUnavailable) as error:
        raise click.ClickException(explain_failure(location, error)) from None
    print_table(("what", source, target), [(kind, str(there), str(here)) for kind, (there, here) in counts.items()])
    if any(there != here for there, here in counts.values()):
        click.echo("The numbers differ: something was written meanwhile, or had expired.", err=True)
        sys.exit(1)


def _copy(settings: Settings, database: Database, *, to_dynamodb: bool) -> dict[str, tuple[int, int]]:
    """Copy, with a progress bar, and count both sides: source and target by kind."""
    from openapi_server.storage import copying

    path = settings.sqlite_path
    if to_dynamodb and not path.exists():
        raise copying.CopyRefused(f"SQLITE_PATH: {path} does not exist")
    before = copying.count_rows(path) if to_dynamodb else copying.count_items(database)
    report, close = _open_progress_bar(sum(before.values()))
    try:
        if to_dynamodb:
            copying.copy_to_dynamodb(path, database, settings.retention, report)
        else:
            copying.copy_to_sqlite(database, path, report)
    finally:
        close()
    after = copying.count_items(database) if to_dynamodb else copying.count_rows(path)
    return {kind: (before[kind], after[kind]) for kind in before}


def _open_progress_bar(total: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    """What tells it of so many more, and what ends it. The bar is for people: only on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("Copied", total=total)
    progress.start()
    return lambda count: progress.advance(task, count), progress.stop
