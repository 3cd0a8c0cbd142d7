"""`zoochat privacy`: all that is kept of one person, to be handed to them or erased."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openapi_server.cli.admin import run_with_store
from openapi_server.models.audit import ERASED_NAME, AuditAction
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.user import USER_PREFIX, USERNAME, derive_cookie_owner

if TYPE_CHECKING:
    # The store is loaded by the commands that need it: see `in_office`.
    from openapi_server.admin import Office

COOKIE_LENGTHS = range(22, 129)
HANDLE_PREFIX = "chat_"
SUBJECT_KINDS: dict[str, Callable[[str], DataSubject]] = {
    "user": lambda name: DataSubject(owner=USER_PREFIX + name),
    "cookie": lambda value: DataSubject(owner=derive_cookie_owner(value)),
    "device": lambda name: DataSubject(handle=HANDLE_PREFIX + name.removeprefix(HANDLE_PREFIX)),
}

who = click.argument("owner", required=False)
session = click.option("--session", "session_ids", multiple=True, help="A session's id, instead or beside; repeatable.")


@click.group()
def privacy() -> None:
    """Show or erase all that is kept of one person. Servers may run meanwhile.

    OWNER is a username, the value of a visitor's `session_id` cookie, or a device as `chat_<its name>`; where that
    could be two of them, say user:NAME, cookie:VALUE or device:NAME. A `-` reads it from standard input, where no other
    user of this machine sees it. Who has none of these may still know the id of a session.
    """


@privacy.command()
@who
@session
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
def export(owner: str | None, session_ids: tuple[str, ...], output: Path | None) -> None:
    """Write one JSON document with all that is kept of somebody."""
    from openapi_server.wire.personal_data import encode_personal_data

    async def work(office: Office) -> dict[str, object]:
        subject, dossier = await _find_subject(office, owner, session_ids)
        await office.record_audit(AuditAction.EXPORTED, subject.audit_name)
        return encode_personal_data(dossier, office.clock.now())

    text = json.dumps(run_with_store(work), ensure_ascii=False, indent=2)
    if output is None:
        click.echo(text)
    else:
        _write_private_file(output, text)
        click.echo(f"Wrote {output}")


@privacy.command()
@who
@session
@click.option("--account", "with_account", is_flag=True, help="The account, too, with its logins and its ledger.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(owner: str | None, session_ids: tuple[str, ...], with_account: bool, yes: bool) -> None:
    """Erase all that is kept of somebody, and the copies of it in the database's files.

    Of an account the ledger stays as amounts, and the account itself stays without --account. While the files are
    tidied nobody can write, about a second for 100 MB.
    """

    async def work(office: Office) -> tuple[Erasure, bool]:
        subject, dossier = await _find_subject(office, owner, session_ids)
        if not yes:
            click.confirm(f"Erase {_describe_counts(dossier)} for good?", abort=True, err=True)
        erased = await office.personal_data.erase(subject, with_account=with_account)
        await office.record_audit(AuditAction.ERASED, ERASED_NAME if erased.accounts else subject.audit_name)
        return erased, await office.store.vacuum()

    erased, is_tidy = run_with_store(work)
    click.echo(
        f"Erased {erased.sessions} sessions, {erased.turns} turns, {erased.messages} messages, "
        f"{erased.devices} devices, {erased.accounts} accounts"
    )
    if not is_tidy:
        raise click.ClickException("a reader was in the way: copies stay in the files until `zoochat sessions purge`")


async def _find_subject(
    office: Office, said: str | None, session_ids: tuple[str, ...]
) -> tuple[DataSubject, PersonalData]:
    """Who is meant, and what is kept of them. One line and exit code 1 when that is nobody, or could be two."""
    candidates = _list_candidates(_read_owner(said), session_ids)
    dossiers = [(subject, await office.personal_data.export(subject)) for subject in candidates]
    known = [(subject, dossier) for subject, dossier in dossiers if not dossier.is_empty]
    if not known:
        raise click.ClickException("nothing is kept of them")
    if len(known) > 1:
        raise click.ClickException("that could be two of them: say user:NAME, cookie:VALUE or device:NAME")
    return known[0]


def _read_owner(said: str | None) -> str | None:
    return sys.stdin.readline().strip() if said == "-" else said


def _list_candidates(said: str | None, session_ids: tuple[str, ...]) -> list[DataSubject]:
    """Whom the words on the command line can mean."""
    if said is None:
        if not session_ids:
            raise click.UsageError("say whose: OWNER, or --session ID")
        return [DataSubject(session_ids=session_ids)]
    kind, colon, name = said.partition(":")
    kinds = [kind] if colon and kind in SUBJECT_KINDS else _guess_kinds(said)
    name = name if colon and kind in SUBJECT_KINDS else said
    return [replace(SUBJECT_KINDS[kind](name), session_ids=session_ids) for kind in kinds]


def _guess_kinds(said: str) -> list[str]:
    looks = {
        "user": USERNAME.fullmatch(said) is not None,
        "cookie": len(said) in COOKIE_LENGTHS,
        "device": said.startswith(HANDLE_PREFIX),
    }
    return [kind for kind, is_so in looks.items() if is_so]


def _describe_counts(dossier: PersonalData) -> str:
    turns = sum(len(talk.turns) for talk in dossier.sessions)
    return f"{len(dossier.sessions)} sessions with {turns} turns, and {len(dossier.devices)} devices,"


def _write_private_file(path: Path, text: str) -> None:
    """For the eyes of whoever asked for it, and nobody else on this machine."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
