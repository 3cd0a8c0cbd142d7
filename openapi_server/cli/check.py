"""`zoochat check`: hold a server against the five contracts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

CONTRACTS = ("convo", "platform", "sessions", "tokens", "devices")


@click.command()
@click.argument("url")
@click.option("--contract", "contracts", multiple=True, type=click.Choice(CONTRACTS), help="Only this one; repeatable.")
@click.option("--username", default="user1", show_default=True, help="Who talks in the sessions contract.")
@click.option("--password", default="user1-demo", show_default=True, envvar="ZOOCHAT_PASSWORD")
@click.option("--admin", default="admin", show_default=True, help="Who gives them credits, when they have too few.")
@click.option("--admin-password", default="admin-demo", show_default=True, envvar="ZOOCHAT_ADMIN_PASSWORD")
@click.option("--stranger", default="keeper1", show_default=True, help="Who has no right to their sessions.")
@click.option("--stranger-password", default="keeper1-demo", show_default=True, envvar="ZOOCHAT_STRANGER_PASSWORD")
@click.option("--heartbeat", "heartbeat_s", default=15.0, show_default=True, help="Longest silence of a stream, in s.")
@click.option("--json", "is_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write them as JUnit XML, too.")
def check(
    url: str,
    contracts: tuple[str, ...],
    username: str,
    password: str,
    admin: str,
    admin_password: str,
    stranger: str,
    stranger_password: str,
    heartbeat_s: float,
    is_json: bool,
    junit: Path | None,
) -> None:
    """Check whether the server at URL keeps the contracts that its openapi.yaml has.

    Passwords may stand in ZOOCHAT_PASSWORD, ZOOCHAT_ADMIN_PASSWORD and ZOOCHAT_STRANGER_PASSWORD.

    It asks real questions, each in a session of its own, and gives the account credits when it has few. Exit code 0:
    nothing failed; 1: something did; 2: it could not be checked.
    """
    from openapi_server.devtools.check.checker import CheckImpossible, CheckOptions
    from openapi_server.devtools.check.report import format_json, format_junit, has_failed
    from openapi_server.devtools.check.site import CheckAccounts, Credentials
    from openapi_server.devtools.check.watching import run_with_progress

    accounts = CheckAccounts(
        Credentials(username, password), Credentials(admin, admin_password), Credentials(stranger, stranger_password)
    )
    order = CheckOptions(url.rstrip("/"), contracts, heartbeat_s, accounts)
    try:
        findings = asyncio.run(run_with_progress(order, is_quiet=is_json))
    except CheckImpossible as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    if is_json:
        click.echo(format_json(url, findings))
    if junit is not None:
        junit.write_text(format_junit(url, findings), encoding="utf-8")
    sys.exit(1 if has_failed(findings) else 0)
