"""The command line, `zoochat`."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from openapi_server import __version__
from openapi_server.cli import devtools
from openapi_server.cli.accounts import users
from openapi_server.cli.animals import animals
from openapi_server.cli.audit import audit
from openapi_server.cli.context import read_settings, report_config_error
from openapi_server.cli.credits import credits
from openapi_server.cli.doctor import doctor
from openapi_server.cli.personal_data import privacy
from openapi_server.cli.rules import rules
from openapi_server.cli.sessions import sessions
from openapi_server.cli.store import store
from openapi_server.cli.tables import tables
from openapi_server.config import ConfigError, Settings, explain_config_error
from openapi_server.models.errors import StoreUnavailable

# What writing to a file, a device or a closed descriptor ends with. A reader that has left (EPIPE) needs no sentence.
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE})


class Commands(click.Group):
    """The commands. Output that cannot be written ends each of them with one sentence and exit code 1."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            try:
                return super().main(*args, **extra)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except OSError as error:
            if error.errno not in _WRITE_ERRORS or error.filename is not None:
                raise
            _discard_output()
            if error.errno != errno.EPIPE:
                with suppress(OSError):
                    click.echo(f"The output could not be written: {os.strerror(error.errno)}.", err=True)
            sys.exit(1)


def _discard_output() -> None:
    """What waits to be written goes nowhere: else the interpreter tries again at its end, with a traceback."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@click.group(cls=Commands, invoke_without_command=True)
@click.version_option(__version__, prog_name="zoochat")
@click.pass_context
def main(context: click.Context) -> None:
    """The chat server of a zoo. Without a command it starts the server."""
    _open_standard_streams()
    if context.invoked_subcommand is None:
        context.invoke(serve)


def _open_standard_streams() -> None:
    """Open those that the caller has closed (`zoochat >&-`): else the next file or socket would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


main.add_command(devtools.client)
main.add_command(devtools.mock)
main.add_command(devtools.check)


@main.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes serve.")
def serve(workers: int) -> None:
    """Start the server on HOST and PORT until Ctrl-C. Settings come from the environment and `.env.local`."""
    # Until the server is up, a signal just ends it; there is nothing to drain yet.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    settings = read_settings()
    # Modules make hundreds of thousands of objects that stay: `open_services` turns it on again.
    gc.disable()
    from openapi_server.spec import load_spec

    # Before all else: it takes memory for a moment, which what is imported then uses.
    load_spec()
    # It imports the whole server: the other commands are quicker without.
    from openapi_server.server import ServerRole, run
    from openapi_server.storage.factory import explain_unavailable
    from openapi_server.workers import run_workers

    def serve_one(settings: Settings, role: ServerRole | None = None) -> None:
        try:
            run(settings, role=role)
        except ConfigError as error:
            report_config_error(explain_config_error(error))
        except StoreUnavailable as error:
            report_config_error(explain_config_error(ConfigError(explain_unavailable(settings, error))))

    if workers == 1:
        serve_one(settings)
        return
    try:
        code = run_workers(settings, workers, serve_one)
    except ConfigError as error:
        report_config_error(explain_config_error(error))
    sys.exit(code)


main.add_command(doctor)
main.add_command(sessions)
main.add_command(tables)
main.add_command(store)
main.add_command(users)
main.add_command(credits)
main.add_command(animals)
main.add_command(rules)
main.add_command(privacy)
main.add_command(audit)
main.add_command(devtools.spec)
