"""`zoochat privacy`: exports or erases all personal data of one person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from openapi_server.cli.context import AdminContext, run_with_context
from openapi_server.models.audit import ERASED_NAME, AuditAction
from openapi_server.models.control_characters import escape_control_characters
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.user import USER_PREFIX, USERNAME, derive_cookie_owner

COOKIE_LENGTHS = range(22, 129)
HANDLE_PREFIX = "chat_"
SUBJECT_KINDS: dict[str, Callable[[str], DataSubject]] = {
    "user": lambda name: DataSubject(owner=USER_PREFIX + name),
    "cookie": lambda value: DataSubject(owner=derive_cookie_owner(value)),
    "device": lambda name: DataSubject(handle=HANDLE_PREFIX + name.removeprefix(HANDLE_PREFIX)),
}

who = click.argument("owner", required=False)
session = click.option("--session", "session_ids", multiple=True, help="A session id. Repeatable.")


@click.group()
def privacy() -> None:
    """Export or erase all personal data of one person. Works while servers run.

    OWNER is a username, the value of a visitor's `session_id` cookie, or a device as `chat_<its name>`. Write
    user:NAME, cookie:VALUE or device:NAME where it could be more than one of these. `-` reads it from standard input,
    where other users of this machine cannot see it. Without any of these, give the id of a session.
    """


@privacy.command()
@who
@session
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
def export(owner: str | None, session_ids: tuple[str, ...], output: Path | None) -> None:
    """Write one JSON document with all data that is stored about a person."""
    from openapi_server.wire.personal_data import encode_personal_data

    async def work(context: AdminContext) -> dict[str, object]:
        subject, data = await _find_subject(context, owner, session_ids)
        await context.record_audit(AuditAction.EXPORTED, subject.audit_name)
        return encode_personal_data(data, context.clock.now())

    text = json.dumps(run_with_context(work), ensure_ascii=False, indent=2)
    if output is None:
        click.echo(escape_control_characters(text))
    else:
        _write_private_file(output, text)
        click.echo(f"Wrote {output}")


@privacy.command()
@who
@session
@click.option("--account", "with_account", is_flag=True, help="Also delete the account, with its logins and credits.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def erase(owner: str | None, session_ids: tuple[str, ...], with_account: bool, yes: bool) -> None:
    """Erase all data that is stored about a person, and its copies in the database's files.

    Without --account the account stays, and its credit history as amounts and times. Nobody can write while the files
    are vacuumed, which takes about a second for 100 MB.
    """

    async def work(context: AdminContext) -> tuple[Erasure, bool]:
        subject, data = await _find_subject(context, owner, session_ids)
        if not yes:
            click.confirm(f"Erase {_describe_counts(data)} for good?", abort=True, err=True)
        erasure = await context.stores.personal_data.erase(subject, with_account=with_account)
        await context.record_audit(AuditAction.ERASED, ERASED_NAME if erasure.accounts else subject.audit_name)
        return erasure, await context.stores.sessions.vacuum()

    erasure, is_vacuumed = run_with_context(work)
    click.echo(
        f"Erased {erasure.sessions} sessions, {erasure.turns} turns, {erasure.messages} messages, "
        f"{erasure.devices} devices, {erasure.accounts} accounts"
    )
    if not is_vacuumed:
        raise click.ClickException("another connection was reading: copies stay until `zoochat sessions purge`")


async def _find_subject(
    context: AdminContext, argument: str | None, session_ids: tuple[str, ...]
) -> tuple[DataSubject, PersonalData]:
    """The person that the arguments name, with their data. Exit code 1 when there is nobody, or more than one."""
    candidates = _list_candidates(_read_owner(argument), session_ids)
    exports = [(subject, await context.stores.personal_data.export(subject)) for subject in candidates]
    known = [(subject, data) for subject, data in exports if not data.is_empty]
    if not known:
        raise click.ClickException("no data is stored about them")
    if len(known) > 1:
        raise click.ClickException("this could be more than one person: write user:NAME, cookie:VALUE or device:NAME")
    return known[0]


def _read_owner(argument: str | None) -> str | None:
    return sys.stdin.readline().strip() if argument == "-" else argument


def _list_candidates(argument: str | None, session_ids: tuple[str, ...]) -> list[DataSubject]:
    """Everyone whom the arguments may mean."""
    if argument is None:
        if not session_ids:
            raise click.UsageError("name a person: OWNER, or --session ID")
        return [DataSubject(session_ids=session_ids)]
    kind, colon, name = argument.partition(":")
    kinds = [kind] if colon and kind in SUBJECT_KINDS else _guess_kinds(argument)
    name = name if colon and kind in SUBJECT_KINDS else argument
    return [replace(SUBJECT_KINDS[kind](name), session_ids=session_ids) for kind in kinds]


def _guess_kinds(argument: str) -> list[str]:
    looks = {
        "user": USERNAME.fullmatch(argument) is not None,
        "cookie": len(argument) in COOKIE_LENGTHS,
        "device": argument.startswith(HANDLE_PREFIX),
    }
    return [kind for kind, is_so in looks.items() if is_so]


def _describe_counts(data: PersonalData) -> str:
    turns = sum(len(session.turns) for session in data.sessions)
    return f"{len(data.sessions)} sessions with {turns} turns, and {len(data.devices)} devices,"


def _write_private_file(path: Path, text: str) -> None:
    """Only the user who runs the command can read the file (mode 0600)."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
