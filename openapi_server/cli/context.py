"""What the commands share: the settings, the open database, the audit trail, and tables for a terminal.

The database, the password hasher and rich are imported inside the functions: `zoochat --help` does not need them.
"""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from openapi_server.config import ConfigError, Settings, load_settings
from openapi_server.models.audit import Actor, AuditAction, AuditEntry
from openapi_server.models.control_characters import escape_control_characters
from openapi_server.models.errors import ChatError, StoreUnavailable
from openapi_server.models.versioned_document import ChangeKind, ImportResult

if TYPE_CHECKING:
    from openapi_server.accounts.passwords import Passwords
    from openapi_server.protocols import Clock
    from openapi_server.storage.factory import Stores

T = TypeVar("T")
OPERATOR = "operator"
# Output that is not a terminal: rich would assume 80 columns, and break a row into several lines.
PIPED_WIDTH = 240
_IMPORTED = {ChangeKind.CREATE: "added", ChangeKind.REPLACE: "changed", None: "unchanged"}


@dataclass(frozen=True, slots=True)
class AdminContext:
    """What the administrative commands work with. Servers may run on the same database meanwhile."""

    settings: Settings
    stores: Stores
    passwords: Passwords
    clock: Clock

    async def record_audit(self, action: AuditAction, target: str | None) -> None:
        """Record an action of the operator, who is whoever sits at this terminal."""
        actor = Actor(OPERATOR, _get_operator_name())
        await self.stores.audit.record(AuditEntry(self.clock.now(), action, actor, target))

    async def record_import(self, action: AuditAction, result: ImportResult) -> None:
        """Record that a document was imported, unless nothing was changed."""
        if result.operation is not None:
            await self.record_audit(action, result.document_id)


@asynccontextmanager
async def open_admin_context(settings: Settings) -> AsyncIterator[AdminContext]:
    """Open the database that the settings name, and close it again. Raises `StoreUnavailable`."""
    from openapi_server.accounts.passwords import Passwords
    from openapi_server.clock import SystemClock
    from openapi_server.storage.factory import open_stores

    clock = SystemClock()
    async with open_stores(settings, clock) as stores:
        passwords = Passwords()
        try:
            yield AdminContext(settings, stores, passwords, clock)
        finally:
            passwords.close()


def run_with_context(work: Callable[[AdminContext], Awaitable[T]]) -> T:
    """Run the work with the database open. An expected error ends the command with one line and exit code 1."""
    from openapi_server.accounts.passwords import WeakPassword
    from openapi_server.storage.factory import explain_unavailable

    async def run() -> T:
        async with open_admin_context(settings) as context:
            return await work(context)

    settings = read_settings()
    try:
        return asyncio.run(run())
    except WeakPassword as error:
        raise click.ClickException(str(error)) from None
    except StoreUnavailable as error:
        raise click.ClickException(explain_unavailable(settings, error)) from None
    except ChatError as error:
        raise click.ClickException(error.detail) from None


def read_settings() -> Settings:
    """The settings. Settings that cannot be used end the command with a message and exit code 2."""
    try:
        return load_settings()
    except ConfigError as error:
        report_config_error(str(error))


def report_config_error(sentences: str) -> NoReturn:
    """End the command with what is wrong with the settings, and exit code 2."""
    click.echo(f"The settings cannot be used:\n{sentences}", err=True)
    sys.exit(2)


def print_imports(results: Iterable[ImportResult]) -> None:
    """A line for each document of an import."""
    for result in results:
        fields = f": {', '.join(result.fields)}" if result.fields else ""
        click.echo(f"{result.document_id}: {_IMPORTED[result.operation]}{fields}")


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """An export that cannot be written ends the command with one line and exit code 1."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written: {error.strerror}") from None


def print_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for people, and for the next command of a pipe: no name and no id is ever cut short."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*names)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(escape_control_characters(cell)) for cell in row))
    console = Console()
    console = console if console.is_terminal else Console(width=PIPED_WIDTH)
    console.print(table)


def _get_operator_name() -> str | None:
    """The operating system's name of the user; None in containers that have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
