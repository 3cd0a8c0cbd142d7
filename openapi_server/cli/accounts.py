"""`zoochat users` and `zoochat credits`: who may log in, and what they may spend."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from openapi_server.cli.admin import run_with_store
from openapi_server.models.audit import AuditAction
from openapi_server.models.credits import Allocation
from openapi_server.models.user import USERNAME, Role, User

if TYPE_CHECKING:
    # The password hasher and the store are loaded by the commands that need them: see `in_office`.
    from openapi_server.admin import Office

MAX_CREDITS, MAX_DAYS = 1_000_000_000, 3650
ROLES = click.Choice([role.value for role in Role])


def _username(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not USERNAME.fullmatch(value):
        raise click.BadParameter("1 to 64 of a-z, 0-9, _, . and -, beginning with a letter or a digit")
    return value


name = click.argument("name", callback=_username)
password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")


@click.group()
def users() -> None:
    """Look after the accounts. Servers may run meanwhile."""


@users.command()
@name
@click.option("--role", type=ROLES, default=Role.USER.value, show_default=True)
@click.option("--parent", callback=_username, help="The username of the parent who may read along.")
@password_stdin
def add(name: str, role: str, parent: str | None, password_stdin: bool) -> None:
    """Add an account. Asks for the password twice."""

    async def work(office: Office) -> None:
        await _require_parent(office, parent)
        password_hash = await office.passwords.hash(password)
        user = User(name, Role(role), password_hash, office.clock.now(), parent)
        if not await office.accounts.create_user(user):
            raise click.ClickException(f"the name {name} is taken")
        await office.record_audit(AuditAction.ACCOUNT_ADDED, name)

    password = _read_password(from_stdin=password_stdin)
    run_with_store(work)
    click.echo(f"Added {name} with the role {role}")


@users.command("list")
def list_users() -> None:
    """Show every account."""
    from openapi_server.cli.tables import print_table

    found = run_with_store(lambda office: office.accounts.list_users())
    print_table(("username", "role", "parent", "since", "demo"), map(_format_row, found))


@users.command("set-role")
@name
@click.argument("role", type=ROLES)
def set_role(name: str, role: str) -> None:
    """Change what somebody may do. It counts from their next request on."""

    async def work(office: Office) -> None:
        _require_user(name, is_known=await office.accounts.set_role(name, Role(role)))
        await office.record_audit(AuditAction.ROLE_CHANGED, name)

    run_with_store(work)
    click.echo(f"{name} has the role {role} now")


@users.command("reset-password")
@name
@password_stdin
def reset_password(name: str, password_stdin: bool) -> None:
    """Give somebody a new password. Ends all their logins; a demo account is none any more."""

    async def work(office: Office) -> None:
        password_hash = await office.passwords.hash(password)
        _require_user(name, is_known=await office.accounts.reset_password(name, password_hash))
        await office.record_audit(AuditAction.PASSWORD_RESET, name)

    password = _read_password(from_stdin=password_stdin)
    run_with_store(work)
    click.echo(f"{name} has a new password, and is logged out everywhere")


@click.group()
def credits() -> None:
    """Look after what users may spend."""


@credits.command()
@name
@click.argument("amount", metavar="CREDITS", type=click.IntRange(1, MAX_CREDITS))
@click.option("--expiry-days", type=click.IntRange(1, MAX_DAYS), help="How long they last; without it for good.")
@click.option("--notes", help="What they are for; stands in the ledger.")
def grant(name: str, amount: int, expiry_days: int | None, notes: str | None) -> None:
    """Give somebody credits."""

    async def work(office: Office) -> int:
        _require_user(name, is_known=await office.accounts.get_user(name) is not None)
        at = office.clock.now()
        expires_at = at + timedelta(days=expiry_days) if expiry_days else None
        await office.credits.allocate_credits(Allocation(name, amount, at, expires_at, notes))
        await office.record_audit(AuditAction.CREDITS_GRANTED, name)
        balance = await office.credits.get_balance(name)
        return balance.credits if balance else 0

    click.echo(f"{name} has {run_with_store(work):,} credits now")


def _format_row(user: User) -> tuple[str, ...]:
    since, is_demo = f"{user.created_at:%Y-%m-%d}", "demo" if user.is_demo else ""
    return user.username, user.role, user.parent or "", since, is_demo


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


async def _require_parent(office: Office, username: str | None) -> None:
    parent = await office.accounts.get_user(username) if username else None
    if username and (parent is None or parent.role.rank < Role.PARENT.rank):
        raise click.ClickException(f"there is no parent {username}")


def _require_user(name: str, *, is_known: bool) -> None:
    if not is_known:
        raise click.ClickException(f"there is no user {name}")
