"""`zoochat rules`: list, import, export and check guardrail rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openapi_server.cli.context import AdminContext, explain_write_errors, print_imports, run_with_context
from openapi_server.models.audit import AuditAction
from openapi_server.models.rule import ListedRule
from openapi_server.models.versioned_document import COMMAND_LINE, Document, ImportResult

if TYPE_CHECKING:
    from openapi_server.moderation.rule_admin import RuleAdmin

rule_path = click.Path(exists=True, path_type=Path, dir_okay=False, readable=True)


@click.group()
def rules() -> None:
    """List, import, export and check rules. Servers may run meanwhile: an import takes effect with the next turn."""


@rules.command("list")
def list_rules() -> None:
    """List every rule by priority: what it does, who wrote it, and whether it is switched off."""

    async def work(context: AdminContext) -> tuple[ListedRule, ...]:
        return await _create_rule_admin(context).list_rules()

    for rule in run_with_context(work):
        click.echo(_describe(rule))


@rules.command("export")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
def export_rules(file: Path) -> None:
    """Write the keepers' rules to FILE, or to standard output. Importing them again changes nothing."""
    from openapi_server.yaml_files import dump_yaml

    async def work(context: AdminContext) -> list[Document]:
        changes = await context.stores.rules.list_changes(0)
        return [dict(stored.document) for stored in changes.existing]

    documents = run_with_context(work)
    text = dump_yaml({"rules": documents})
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    with explain_write_errors(file):
        file.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {len(documents)} rules to {file}")


@rules.command("import")
@click.argument("file", metavar="FILE", type=rule_path)
def import_rules(file: Path) -> None:
    """Create or replace the rules in FILE. Other rules stay as they are.

    Nothing is imported unless the whole file is valid. Exit code 0: imported; 1: an error, which is printed.
    """
    documents = _read_rules(file)

    async def work(context: AdminContext) -> list[ImportResult]:
        results = await _create_rule_admin(context).import_rules(documents, COMMAND_LINE)
        for result in results:
            await context.record_import(AuditAction.RULE_CHANGED, result)
        return results

    print_imports(run_with_context(work))
    if not documents:
        click.echo("0 rules, nothing to import")


@rules.command()
@click.argument("file", metavar="[FILE]", type=rule_path, required=False)
def lint(file: Path | None) -> None:
    """Check a rules file, and print the line, rule and field of the first error. Without a file: the packaged rules.

    Exit code 0: no errors; 1: an error.
    """
    from openapi_server.moderation.rule_set import load_packaged_rules

    count = len(_read_rules(file)) if file else len(load_packaged_rules().rules)
    click.echo(f"{count} rules, no errors")


def _read_rules(file: Path) -> list[Document]:
    from openapi_server.moderation.rule_admin import read_rule_list
    from openapi_server.moderation.rule_files import RuleFileError
    from openapi_server.moderation.rule_set import load_packaged_rules

    try:
        return read_rule_list(file, load_packaged_rules())
    except RuleFileError as error:
        raise click.ClickException(str(error)) from None


def _create_rule_admin(context: AdminContext) -> RuleAdmin:
    """Not part of the context: reading the packaged rules takes a moment, and most commands need none."""
    from openapi_server.moderation.rule_admin import RuleAdmin
    from openapi_server.moderation.rule_set import LiveRuleSet

    return RuleAdmin(context.stores.rules, context.clock, LiveRuleSet(context.stores.rules))


def _describe(rule: ListedRule) -> str:
    document = rule.document
    origin = "packaged" if rule.stored is None else "keepers (over a packaged one)" if rule.is_replacing else "keepers"
    state = "" if document.get("enabled", True) else ", switched off"
    priority = document.get("priority", 0)
    return (
        f"{rule.name}: {document['strength']} {document['then']} ({document['category']}, {priority}), {origin}{state}"
    )
