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

from openapi_server.cli.admin import in_office
from openapi_server.models.audit import NOBODY, Deed
from openapi_server.models.personal_data import Dossier, Erased, Subject
from openapi_server.models.user import USER_PREFIX, USERNAME, owner_behind

if TYPE_CHECKING:
    # The store is loaded by the commands that need it: see `in_office`.
    from openapi_server.admin import Office

COOKIE_LENGTHS = range(22, 129)
HANDLE = "chat_"
KINDS: dict[str, Callable[[str], Subject]] = {
    "user": lambda name: Subject(owner=USER_PREFIX + name),
    "cookie": lambda value: Subject(owner=owner_behind(value)),
    "device": lambda name: Subject(handle=HANDLE + name.removeprefix(HANDLE)),
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
    from openapi_server.wire.personal_data import dossier_object

    async def work(office: Office) -> dict[str, object]:
        subject, dossier = await _found(office, owner, session_ids)
        await office.noted(Deed.EXPORTED, subject.mark)
        return dossier_object(dossier, office.clock.now())

    text = json.dumps(in_office(work), ensure_ascii=False, indent=2)
    if output is None:
        click.echo(text)
    else:
        _write(output, text)
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

    async def work(office: Office) -> tuple[Erased, bool]:
        subject, dossier = await _found(office, owner, session_ids)
        if not yes:
            click.confirm(f"Erase {_counted(dossier)} for good?", abort=True, err=True)
        erased = await office.privacy.erase(subject, with_account=with_account)
        await office.noted(Deed.ERASED, NOBODY if erased.accounts else subject.mark)
        return erased, await office.store.tidy()

    erased, is_tidy = in_office(work)
    click.echo(
        f"Erased {erased.sessions} sessions, {erased.turns} turns, {erased.messages} messages, "
        f"{erased.devices} devices, {erased.accounts} accounts"
    )
    if not is_tidy:
        raise click.ClickException("a reader was in the way: copies stay in the files until `zoochat sessions purge`")


async def _found(office: Office, said: str | None, session_ids: tuple[str, ...]) -> tuple[Subject, Dossier]:
    """Who is meant, and what is kept of them. One line and exit code 1 when that is nobody, or could be two."""
    candidates = _candidates(_spelled(said), session_ids)
    dossiers = [(subject, await office.privacy.dossier(subject)) for subject in candidates]
    known = [(subject, dossier) for subject, dossier in dossiers if not dossier.is_empty]
    if not known:
        raise click.ClickException("nothing is kept of them")
    if len(known) > 1:
        raise click.ClickException("that could be two of them: say user:NAME, cookie:VALUE or device:NAME")
    return known[0]


def _spelled(said: str | None) -> str | None:
    return sys.stdin.readline().strip() if said == "-" else said


def _candidates(said: str | None, session_ids: tuple[str, ...]) -> list[Subject]:
    """Whom the words on the command line can mean."""
    if said is None:
        if not session_ids:
            raise click.UsageError("say whose: OWNER, or --session ID")
        return [Subject(session_ids=session_ids)]
    kind, colon, name = said.partition(":")
    kinds = [kind] if colon and kind in KINDS else _kinds_of(said)
    name = name if colon and kind in KINDS else said
    return [replace(KINDS[kind](name), session_ids=session_ids) for kind in kinds]


def _kinds_of(said: str) -> list[str]:
    looks = {
        "user": USERNAME.fullmatch(said) is not None,
        "cookie": len(said) in COOKIE_LENGTHS,
        "device": said.startswith(HANDLE),
    }
    return [kind for kind, is_so in looks.items() if is_so]


def _counted(dossier: Dossier) -> str:
    turns = sum(len(talk.turns) for talk in dossier.talks)
    return f"{len(dossier.talks)} sessions with {turns} turns, and {len(dossier.devices)} devices,"


def _write(path: Path, text: str) -> None:
    """For the eyes of whoever asked for it, and nobody else on this machine."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
