"""`zoochat users`: creates and changes accounts."""

from __future__ import annotations

import sys

import click

from openapi_server.cli.context import AdminContext, print_table, run_with_context
from openapi_server.models.audit import AuditAction
from openapi_server.models.user import USERNAME, Role, User

ROLES = click.Choice([role.value for role in Role])


def check_username(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback: exit code 2 for what cannot be a username."""
    if value is not None and not USERNAME.fullmatch(value):
        raise click.BadParameter("1 to 64 of a-z, 0-9, _, . and -, beginning with a letter or a digit")
    return value


def require_user(name: str, *, is_known: bool) -> None:
    if not is_known:
        raise click.ClickException(f"there is no user {name}")


name_argument = click.argument("name", callback=check_username)
password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")


@click.group()
def users() -> None:
    """Manage accounts. Works while servers run."""


@users.command()
@name_argument
@click.option("--role", type=ROLES, default=Role.USER.value, show_default=True)
@click.option("--parent", callback=check_username, help="The parent's username, who may read the child's sessions.")
@password_stdin
def add(name: str, role: str, parent: str | None, password_stdin: bool) -> None:
    """Create an account. Asks for the password twice."""

    async def work(context: AdminContext) -> None:
        await _require_parent(context, parent)
        password_hash = await context.passwords.hash(password)
        user = User(name, Role(role), password_hash, context.clock.now(), parent)
        if not await context.stores.accounts.create_user(user):
            raise click.ClickException(f"the name {name} is taken")
        await context.record_audit(AuditAction.ACCOUNT_ADDED, name)

    password = _read_password(from_stdin=password_stdin)
    run_with_context(work)
    click.echo(f"Added {name} with the role {role}")


@users.command("list")
def list_users() -> None:
    """List all accounts."""
    found = run_with_context(lambda context: context.stores.accounts.list_users())
    print_table(("username", "role", "parent", "created", "demo"), map(_format_row, found))


@users.command("set-role")
@name_argument
@click.argument("role", type=ROLES)
def set_role(name: str, role: str) -> None:
    """Change the role of an account. It applies from the next request on."""

    async def work(context: AdminContext) -> None:
        require_user(name, is_known=await context.stores.accounts.set_role(name, Role(role)))
        await context.record_audit(AuditAction.ROLE_CHANGED, name)

    run_with_context(work)
    click.echo(f"{name} has the role {role} now")


@users.command("reset-password")
@name_argument
@password_stdin
def reset_password(name: str, password_stdin: bool) -> None:
    """Set a new password and end all logins of the account. A demo account becomes an ordinary one."""

    async def work(context: AdminContext) -> None:
        password_hash = await context.passwords.hash(password)
        require_user(name, is_known=await context.stores.accounts.reset_password(name, password_hash))
        await context.record_audit(AuditAction.PASSWORD_RESET, name)

    password = _read_password(from_stdin=password_stdin)
    run_with_context(work)
    click.echo(f"{name} has a new password, and is logged out everywhere")


def _format_row(user: User) -> tuple[str, ...]:
    created, demo = f"{user.created_at:%Y-%m-%d}", "demo" if user.is_demo else ""
    return user.username, user.role, user.parent or "", created, demo


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


async def _require_parent(context: AdminContext, username: str | None) -> None:
    parent = await context.stores.accounts.get_user(username) if username else None
    if username and (parent is None or parent.role.rank < Role.PARENT.rank):
        raise click.ClickException(f"there is no parent {username}")
