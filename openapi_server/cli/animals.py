"""`zoochat animals`: import, export and check animal files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openapi_server.cli.context import AdminContext, explain_write_errors, print_imports, run_with_context
from openapi_server.models.audit import AuditAction
from openapi_server.models.errors import InvalidInput
from openapi_server.models.versioned_document import COMMAND_LINE, Document, ImportResult

if TYPE_CHECKING:
    from openapi_server.knowledge.animal_admin import AnimalAdmin

animal_path = click.Path(exists=True, path_type=Path, readable=True)


@click.group()
def animals() -> None:
    """Import, export and check animals. Servers may run meanwhile: an import takes effect with the next turn."""


@animals.command("import")
@click.argument("source", metavar="FILE_OR_DIR", type=animal_path)
def import_animals(source: Path) -> None:
    """Create or replace the animals in the files. Other animals stay as they are.

    Nothing is imported unless all files are valid. Exit code 0: imported; 1: an error, which is printed.
    """
    from openapi_server.knowledge.animal_files import read_document

    files = _list_valid_files(source)

    async def work(context: AdminContext) -> list[ImportResult]:
        documents = [read_document(file) for file in files]
        animal_admin = await _create_animal_admin(context)
        for file, document in zip(files, documents, strict=True):
            animal_admin.require_default_stays_active(document["animal_id"], document)
            try:
                await animal_admin.validate_import(document)
            except InvalidInput as error:
                raise click.ClickException(f"{file}: {error.detail}") from None
        await _seed(context)
        return [await _import(context, animal_admin, document) for document in documents]

    print_imports(run_with_context(work))


@animals.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def export_animals(folder: Path) -> None:
    """Write every animal to a file in DIR, replacing files of that name. Importing them again changes nothing.

    Other files stay, also those of deleted animals: an import would create these again.
    """
    from openapi_server.yaml_files import dump_yaml

    async def work(context: AdminContext) -> list[Document]:
        await _seed(context)
        changes = await context.stores.animals.list_changes(0)
        return [stored.document for stored in changes.existing]

    documents = run_with_context(work)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for document in documents:
            (folder / f"{document['animal_id']}.yaml").write_text(dump_yaml(document), encoding="utf-8")
    click.echo(f"Wrote {len(documents)} animals to {folder}")


@animals.command()
@click.argument("source", metavar="[FILE_OR_DIR]", type=animal_path, required=False)
def lint(source: Path | None) -> None:
    """Check animal files, and print the file, fact and field of each error. Without a path: the packaged files.

    What the animals say is checked against the packaged rules for replies; an import also checks the keepers' rules.
    Exit code 0: no errors; 1: errors.
    """
    from openapi_server.knowledge.animal_files import PACKAGED_ANIMALS

    files = _list_valid_files(source or PACKAGED_ANIMALS)
    _exit_with(_list_forbidden_words(files))
    click.echo(f"{len(files)} animals, no errors")


def _list_valid_files(source: Path) -> list[Path]:
    """The files of the source. When one of them is wrong, all errors are printed and the command exits with 1."""
    from openapi_server.knowledge.animal_files import AnimalFileError, lint_file, list_animal_files

    try:
        files = list_animal_files(source) if source.is_dir() else [source]
    except AnimalFileError as error:
        raise click.ClickException(str(error)) from None
    _exit_with([str(issue) for file in files for issue in lint_file(file)])
    return files


def _list_forbidden_words(files: Sequence[Path]) -> list[str]:
    """What the animals of valid files would say against the packaged rules for replies."""
    from openapi_server.knowledge.animal_admin import find_forbidden_words
    from openapi_server.knowledge.animal_files import parse_animal, read_document
    from openapi_server.moderation.output_rules import OutputRules

    rules = OutputRules.load()
    return [
        f"{file}: {field}: {message}"
        for file in files
        for document in [read_document(file)]
        for field, message in find_forbidden_words(document, parse_animal(document, file), rules.find_broken_rule)
    ]


def _exit_with(errors: Sequence[str]) -> None:
    """Print the errors and exit with 1, if there are any."""
    for error in errors:
        click.echo(error, err=True)
    if errors:
        sys.exit(1)


async def _create_animal_admin(context: AdminContext) -> AnimalAdmin:
    """Not part of the context: the schema of animal files takes 0.1 s to import, and most commands do not need it."""
    from openapi_server.knowledge.animal_admin import AnimalAdmin
    from openapi_server.moderation.rule_set import LiveOutputRules, LiveRuleSet

    rules = LiveRuleSet(context.stores.rules)
    await rules.refresh()
    find_broken_rule = LiveOutputRules(rules).find_broken_rule
    return AnimalAdmin(context.stores.animals, context.clock, context.settings.default_animal, find_broken_rule)


async def _seed(context: AdminContext) -> None:
    """Fill an empty store as a server does: what is imported then comes beside the packaged animals."""
    from openapi_server.knowledge.animal_admin import seed_animals

    await seed_animals(context.stores.animals, context.clock)


async def _import(context: AdminContext, animal_admin: AnimalAdmin, document: Document) -> ImportResult:
    result = await animal_admin.import_animal(document, COMMAND_LINE)
    await context.record_import(AuditAction.ANIMAL_CHANGED, result)
    return result
