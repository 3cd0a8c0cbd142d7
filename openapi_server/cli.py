"""The command line, `zoochat`."""

from __future__ import annotations

import signal
import sys

import click

from openapi_server import __version__
from openapi_server.config import ConfigError, Settings, load_settings
from openapi_server.errors import StoreUnavailable


@click.group(invoke_without_command=True)
@click.version_option(__version__, prog_name="zoochat")
@click.pass_context
def main(context: click.Context) -> None:
    """The chat server of a zoo. Without a command it serves."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@main.command()
def serve() -> None:
    """Serve on HOST and PORT until Ctrl-C. Settings come from the environment and `.env.local`."""
    # Until the server is up, a signal just ends it; there is nothing to drain yet.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    from openapi_server.server import run  # imports the whole server: the other commands are quicker without

    try:
        run(_settings())
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
    """Delete the sessions that are over. Readers do not see them anyway; this frees the space."""
    from openapi_server.purge import purge_sessions

    click.echo(f"Cleaned up {purge_sessions(_settings(), batch)} expired sessions")


def _settings() -> Settings:
    """The settings, or a plain word about what is wrong with them and exit code 2."""
    try:
        return load_settings()
    except ConfigError as error:
        click.echo(f"The settings cannot be used:\n{error}", err=True)
        sys.exit(2)
