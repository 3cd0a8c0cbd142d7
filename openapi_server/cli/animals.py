"""`zoochat animals`: what the keepers wrote, between files and the store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from openapi_server.cli.context import AdminContext, run_with_context
from openapi_server.models.audit import AuditAction
from openapi_server.models.document import COMMAND_LINE, Change, Document

animal_path = click.Path(exists=True, path_type=Path, readable=True)


@click.group()
def animals() -> None:
    """Look after the animals. Servers may run meanwhile: the next turn speaks from what was imported."""


@animals.command("import")
@click.argument("source", metavar="FILE_OR_DIR", type=animal_path)
def import_animals(source: Path) -> None:
    """Let the animals in the files be what stands there. Others stay as they are.

    Nothing is imported unless all files are right. Exit code 0: done; 1: something is wrong, and said.
    """
    from openapi_server.knowledge.schema import read_document

    files = _right_files(source)

    async def work(context: AdminContext) -> list[tuple[str, Change | None]]:
        documents = [read_document(file) for file in files]
        for document in documents:
            context.animal_admin.require_default_stays_active(document["animal_id"], document)
        await _seeded(context)
        return [await _taken(context, document) for document in documents]

    for animal_id, change in run_with_context(work):
        click.echo(f"{animal_id}: {_told(change)}")


@animals.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def export_animals(folder: Path) -> None:
    """Write every animal of the store into a file of DIR, over what is there. Importing them changes nothing.

    Other files stay, also those of animals that are gone: an import would bring them back.
    """
    from openapi_server.yaml_files import dump_yaml

    async def work(context: AdminContext) -> list[Document]:
        await _seeded(context)
        news = await context.animal_admin.store.list_changes(0)
        return [kept.document for kept in news.documents.values() if kept is not None]

    documents = run_with_context(work)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for document in documents:
            (folder / f"{document['animal_id']}.yaml").write_text(dump_yaml(document), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{folder}: cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {len(documents)} animals to {folder}")


@animals.command()
@click.argument("source", metavar="[FILE_OR_DIR]", type=animal_path, required=False)
def lint(source: Path | None) -> None:
    """Say what is wrong with files: which file, which fact, which field. Without a path: with those of the server.

    Exit code 0: nothing is; 1: something is.
    """
    from openapi_server.knowledge.schema import PACKAGED_ANIMALS

    files = _right_files(source or PACKAGED_ANIMALS)
    click.echo(f"{len(files)} animals, nothing to complain about")


def _right_files(source: Path) -> list[Path]:
    """The files that are meant; when one of them is wrong, every complaint is printed, and the command ends."""
    from openapi_server.knowledge.schema import AnimalFileError, lint_file, list_animal_files

    try:
        files = list_animal_files(source) if source.is_dir() else [source]
    except AnimalFileError as error:
        raise click.ClickException(str(error)) from None
    found = [complaint for file in files for complaint in lint_file(file)]
    for complaint in found:
        click.echo(str(complaint), err=True)
    if found:
        sys.exit(1)
    return files


async def _seeded(context: AdminContext) -> None:
    """As a server does it: what is imported into an empty store comes to the animals there would have been."""
    from openapi_server.knowledge.admin import seed_animals

    await seed_animals(context.animal_admin.store, context.clock)


async def _taken(context: AdminContext, document: Document) -> tuple[str, Change | None]:
    change = await context.animal_admin.import_animal(document, COMMAND_LINE)
    if change is not None:
        await context.record_audit(AuditAction.ANIMAL_CHANGED, change.document_id)
    return document["animal_id"], change


def _told(change: Change | None) -> str:
    if change is None:
        return "unchanged"
    return f"changed: {', '.join(change.fields)}" if change.fields else "added"
