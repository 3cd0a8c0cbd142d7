"""The command line, `zoochat`."""

from __future__ import annotations

import signal
import sys

import click

from openapi_server import __version__
from openapi_server.cli import devtools
from openapi_server.cli.accounts import credits, users
from openapi_server.cli.animals import animals
from openapi_server.cli.audit import audit
from openapi_server.cli.personal_data import privacy
from openapi_server.cli.rules import rules
from openapi_server.cli.settings import read_settings
from openapi_server.config import ConfigError
from openapi_server.models.errors import StoreUnavailable


@click.group(invoke_without_command=True)
@click.version_option(__version__, prog_name="zoochat")
@click.pass_context
def main(context: click.Context) -> None:
    """The chat server of a zoo. Without a command it serves."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


main.add_command(devtools.client)
main.add_command(devtools.mock)
main.add_command(devtools.check)


@main.command()
def serve() -> None:
    """Serve on HOST and PORT until Ctrl-C. Settings come from the environment and `.env.local`."""
    # Until the server is up, a signal just ends it; there is nothing to drain yet.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    from openapi_server.server import run  # imports the whole server: the other commands are quicker without

    try:
        run(read_settings())
    except ConfigError as error:
        click.echo(f"The settings cannot be used:\n{error}", err=True)
        sys.exit(2)
    except StoreUnavailable:
        click.echo("SQLITE_PATH: the database there cannot be used; the log line above says why", err=True)
        sys.exit(2)


@main.group()
def sessions() -> None:
    """Look after the sessions in the store."""


@sessions.command()
@click.option("--batch", default=500, show_default=True, help="How many to delete in one transaction.")
def purge(batch: int) -> None:
    """Delete what is over or older than RETENTION_DAYS. Readers do not see it anyway; this frees the space.

    The server does it by itself every hour, but tidies a large database's files only here: nobody can write meanwhile.
    """
    from openapi_server.cli.sessions import delete_expired

    settings = read_settings()
    purged = delete_expired(settings, batch)
    click.echo(f"Cleaned up {purged.sessions} expired sessions")
    if settings.retention:
        click.echo(f"Forgot {purged.turns} turns older than {settings.retention_days} days")
    if not purged.is_tidy:
        click.echo("A reader was in the way: copies of it stay in the files until the next time", err=True)


main.add_command(users)
main.add_command(credits)
main.add_command(animals)
main.add_command(rules)
main.add_command(privacy)
main.add_command(audit)
