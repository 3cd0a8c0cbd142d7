"""`zoochat tables`: makes the tables of DynamoDB, and says what they lack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from openapi_server.cli.context import read_settings
from openapi_server.config import DynamoLocation

if TYPE_CHECKING:
    from openapi_server.storage.dynamodb.tables import Finding


@click.group()
def tables() -> None:
    """Manage the tables of STORE=dynamodb. Both commands also work before that is set."""


@tables.command()
def check() -> None:
    """Say what the tables lack, and change nothing. Exit code 1: a table lacks something."""
    location = read_settings().dynamodb_location
    findings = list(_check(location))
    for finding in findings:
        click.echo(f"{finding.name}: {'; '.join(finding.lacks) or 'complete'}")
    if any(finding.lacks for finding in findings):
        click.echo("`zoochat tables create` makes what is missing.", err=True)
        sys.exit(1)


@tables.command()
def create() -> None:
    """Make the tables that are missing, billed by request, with time to live and point-in-time recovery.

    Of a table that exists, only these two are turned on. Nothing is deleted.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from openapi_server.storage.dynamodb.batches_and_transactions import open_client
    from openapi_server.storage.dynamodb.opening import get_names
    from openapi_server.storage.dynamodb.tables import create_tables

    location = read_settings().dynamodb_location
    is_complete = True
    try:
        client = open_client(location.region, location.endpoint)
        for name, change in create_tables(client, get_names(location)):
            is_complete = False
            click.echo(f"{name}: {change}")
        client.close()
    except (BotoCoreError, ClientError, TimeoutError) as error:
        _report(location, error)
    if is_complete:
        click.echo("Nothing was missing.")


def _check(location: DynamoLocation) -> list[Finding]:
    from botocore.exceptions import BotoCoreError, ClientError

    from openapi_server.storage.dynamodb.batches_and_transactions import open_client
    from openapi_server.storage.dynamodb.opening import get_names
    from openapi_server.storage.dynamodb.tables import check_tables

    try:
        client = open_client(location.region, location.endpoint)
        findings = list(check_tables(client, get_names(location)))
        client.close()
    except (BotoCoreError, ClientError) as error:
        _report(location, error)
    return findings


def _report(location: DynamoLocation, error: Exception) -> NoReturn:
    from openapi_server.storage.dynamodb.opening import explain_failure

    raise click.ClickException(explain_failure(location, error)) from None
