"""The command line, `zoochat`."""

from __future__ import annotations

import sys

import click

from openapi_server import __version__
from openapi_server.config import ConfigError, load_settings


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
    from openapi_server.server import run  # imports the whole server: the other commands are quicker without

    try:
        run(load_settings())
    except ConfigError as error:
        click.echo(f"The settings cannot be used:\n{error}", err=True)
        sys.exit(2)
