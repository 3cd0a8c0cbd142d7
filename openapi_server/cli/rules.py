"""`zoochat rules`: the keepers' rules, between files and the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openapi_server.cli.context import AdminContext, run_with_context
from openapi_server.models.audit import AuditAction
from openapi_server.models.document import COMMAND_LINE, Document, Operation
from openapi_server.models.rule import ListedRule

if TYPE_CHECKING:
    from openapi_server.moderation.rule_admin import RuleAdmin

rule_path = click.Path(exists=True, path_type=Path, dir_okay=False, readable=True)
TOLD = {Operation.CREATE: "added", Operation.REPLACE: "changed", None: "unchanged"}


@click.group()
def rules() -> None:
    """Look after the rules. Servers may run meanwhile: the next turn obeys what was imported."""


@rules.command("list")
def list_rules() -> None:
    """Every rule, the most urgent first: who wrote it, what it does, and whether it is switched off."""

    async def work(context: AdminContext) -> tuple[ListedRule, ...]:
        return await _keeping(context).list_rules()

    for rule in run_with_context(work):
        click.echo(_line(rule))


@rules.command("export")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
def export_rules(file: Path) -> None:
    """Write the keepers' rules to FILE, over what is there, or to the screen. Importing them changes nothing."""
    from openapi_server.yaml_files import dump_yaml

    async def work(context: AdminContext) -> list[Document]:
        changes = await context.stores.rules.list_changes(0)
        return [dict(stored.document) for stored in changes.existing]

    documents = run_with_context(work)
    text = dump_yaml({"rules": documents})
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{file}: cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {len(documents)} rules to {file}")


@rules.command("import")
@click.argument("file", metavar="FILE", type=rule_path)
def import_rules(file: Path) -> None:
    """Let the rules in FILE be what stands there. Others stay as they are.

    Nothing is imported unless all of it is right. Exit code 0: done; 1: something is wrong, and said.
    """
    documents = _right_rules(file)

    async def work(context: AdminContext) -> list[tuple[str, Operation | None]]:
        taken = await _keeping(context).import_rules(documents, COMMAND_LINE)
        for name, operation in taken:
            if operation is not None:
                await context.record_audit(AuditAction.RULE_CHANGED, name)
        return taken

    for name, operation in run_with_context(work):
        click.echo(f"{name}: {TOLD[operation]}")


@rules.command()
@click.argument("file", metavar="[FILE]", type=rule_path, required=False)
def lint(file: Path | None) -> None:
    """Say what is wrong with a file: which line, which rule, which field. Without a file: with those of the server.

    Exit code 0: nothing is; 1: something is.
    """
    from openapi_server.moderation.rule_set import load_packaged_rules

    count = len(_right_rules(file)) if file else len(load_packaged_rules().rules)
    click.echo(f"{count} rules, nothing to complain about")


def _right_rules(file: Path) -> list[Document]:
    from openapi_server.moderation.rule_admin import read_rule_list
    from openapi_server.moderation.rule_files import RuleFileError
    from openapi_server.moderation.rule_set import load_packaged_rules

    try:
        return read_rule_list(file, load_packaged_rules())
    except RuleFileError as error:
        raise click.ClickException(str(error)) from None


def _keeping(context: AdminContext) -> RuleAdmin:
    """Made here, for the packaged rules take a moment to read, and most commands need none."""
    from openapi_server.moderation.rule_admin import RuleAdmin
    from openapi_server.moderation.rule_set import LiveRuleSet

    return RuleAdmin(context.stores.rules, context.clock, LiveRuleSet(context.stores.rules))


def _line(rule: ListedRule) -> str:
    document = rule.document
    origin = "packaged" if rule.stored is None else "keepers (over a packaged one)" if rule.is_replacing else "keepers"
    state = "" if document.get("enabled", True) else ", switched off"
    priority = document.get("priority", 0)
    return (
        f"{rule.name}: {document['strength']} {document['then']} ({document['category']}, {priority}), {origin}{state}"
    )
