"""`zoochat credits`: gives users credits to spend."""

from __future__ import annotations

from datetime import timedelta

import click

from openapi_server.cli.accounts import name_argument, require_user
from openapi_server.cli.context import AdminContext, run_with_context
from openapi_server.models.audit import AuditAction
from openapi_server.models.credits import Allocation

MAX_CREDITS, MAX_DAYS = 1_000_000_000, 3650


@click.group()
def credits() -> None:
    """Manage the credits of users."""


@credits.command()
@name_argument
@click.argument("amount", metavar="CREDITS", type=click.IntRange(1, MAX_CREDITS))
@click.option("--expiry-days", type=click.IntRange(1, MAX_DAYS), help="Days until they expire. Default: never.")
@click.option("--notes", help="A reason, kept with the entry in the user's credit history.")
def grant(name: str, amount: int, expiry_days: int | None, notes: str | None) -> None:
    """Give a user credits."""

    async def work(context: AdminContext) -> int:
        accounts, credits = context.stores.accounts, context.stores.credits
        require_user(name, is_known=await accounts.get_user(name) is not None)
        at = context.clock.now()
        expires_at = at + timedelta(days=expiry_days) if expiry_days else None
        await credits.allocate_credits(Allocation(name, amount, at, expires_at, notes))
        await context.record_audit(AuditAction.CREDITS_GRANTED, name)
        balance = await credits.get_balance(name)
        return balance.credits if balance else 0

    click.echo(f"{name} has {run_with_context(work):,} credits now")
