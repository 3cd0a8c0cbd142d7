"""Changes to animals: documents, settings and facts. The whole document is validated at every change.

Changes are not announced: every turn loads them when it begins (`Knowledge.refresh`), in any process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, cast

from openapi_server import linear_regex
from openapi_server.knowledge.animal_files import (
    PACKAGED_ANIMALS,
    AnimalFileError,
    list_animal_files,
    load_document,
    parse_animal,
)
from openapi_server.models.animal import Animal
from openapi_server.models.errors import (
    AnimalExists,
    AnimalNeeded,
    AnimalNotFound,
    FactNotFound,
    FieldError,
    InvalidInput,
    RuleBroken,
    VersionMismatch,
)
from openapi_server.models.page import Page
from openapi_server.models.versioned_document import (
    PACKAGE,
    Change,
    ChangeKind,
    Document,
    DocumentEdit,
    ImportResult,
    VersionedDocument,
    find_changed_fields,
    require_written,
)
from openapi_server.protocols import Clock, DocumentStore, DraftStore

_INDEX = linear_regex.compile(r"\[(\d+)\]")
# The name of the rule that words of an animal's keepers break, if any.
FindBrokenRule = Callable[[str, Animal], str | None]
# Members whose texts no animal says.
_UNSAID = frozenset("animal_id asks born code group id level mind source topic type url".split())


class AnimalAdmin:
    """Reads and changes animals' documents. What an animal is to say must keep the rules for replies.

    `required_id`: the default animal, which can neither be retired nor deleted.
    """

    def __init__(self, store: DraftStore, clock: Clock, required_id: str, find_broken_rule: FindBrokenRule) -> None:
        self.store = store
        self.clock = clock
        self._required_id = required_id
        self._find_broken_rule = find_broken_rule

    async def validate(
        self, animal_id: str, document: Document, before: Document | None = None, within: str = ""
    ) -> Animal:
        """The animal that the document describes. `InvalidInput` names the field that is wrong.

        `RuleBroken` names one whose text is not in the document before, and breaks a rule. `within`: as for
        `validate_document`.
        """
        return await asyncio.to_thread(self._validate, animal_id, document, before, within)

    def _validate(self, animal_id: str, document: Document, before: Document | None, within: str) -> Animal:
        animal = validate_document(document, animal_id, within)
        known = {text for _, text in _list_said(before or {})}
        for field, message in find_forbidden_words(document, animal, self._find_broken_rule, known):
            raise RuleBroken.for_field(field.removeprefix(_dot(within)), message)
        return animal

    async def get_document(self, animal_id: str) -> VersionedDocument:
        stored = await self.store.get_document(animal_id)
        if stored is None:
            raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
        return stored

    async def get_expected_version(self, edit: DocumentEdit) -> VersionedDocument:
        """The animal, at a version that the keeper has read; else `VersionMismatch`."""
        stored = await self.get_document(edit.document_id)
        edit.require_expected(stored.version, "animal")
        return stored

    async def list_history(self, animal_id: str, limit: int, cursor: str | None) -> Page[Change]:
        """Also of an animal that was deleted; `AnimalNotFound` when there never was one."""
        page = await self.store.list_history(animal_id, limit, cursor)
        if not page.items and cursor is None:
            await self.get_document(animal_id)
        return page

    async def create_animal(self, document: Document, by: str) -> VersionedDocument:
        animal = await self.validate(document["animal_id"], document)
        change = self.make_change(DocumentEdit(animal.animal_id, by), ChangeKind.CREATE)
        created = await self.store.put_document(change, None, document)
        if created is None:
            raise AnimalExists(f"{animal.animal_id} lives here. PUT /animal/{animal.animal_id} changes it.")
        return created

    async def replace_animal(self, edit: DocumentEdit, document: Document) -> VersionedDocument:
        return await self._replace(edit, ChangeKind.REPLACE, await self.get_expected_version(edit), document)

    async def update_settings(self, edit: DocumentEdit, settings: Mapping[str, Any]) -> VersionedDocument:
        """Merge the settings into the document, recursively; None removes a member (a JSON merge patch, RFC 7396)."""
        before = await self.get_expected_version(edit)
        return await self._replace(edit, ChangeKind.CONFIGURE, before, _merge_patch(before.document, settings))

    async def delete_animal(self, edit: DocumentEdit) -> None:
        stored = await self.get_expected_version(edit)
        self._require_not_required(edit.document_id)
        if not await self.store.delete_document(self.make_change(edit, ChangeKind.DELETE), stored.version):
            raise VersionMismatch

    async def put_fact(self, edit: DocumentEdit, fact: Mapping[str, Any]) -> tuple[VersionedDocument, bool]:
        """Add a fact, or replace the one with its id. True: it was added."""
        before = await self.get_expected_version(edit)
        index = _find_fact(before.document, fact["id"])
        after = _put_fact(before.document, index, fact)
        stored = await self._replace(edit, ChangeKind.PUT_FACT, before, after, within=f"facts[{index}].")
        return stored, index == len(before.document["facts"])

    async def delete_fact(self, edit: DocumentEdit, fact_id: str) -> VersionedDocument:
        before = await self.get_expected_version(edit)
        return await self._replace(edit, ChangeKind.REMOVE_FACT, before, _delete_fact(before.document, fact_id))

    async def validate_import(self, document: Document) -> Animal:
        """As before an import: words that are stored already are not held against the rules."""
        animal_id = document["animal_id"]
        before = await self.store.get_document(animal_id)
        return await self.validate(animal_id, document, before.document if before else None)

    async def import_animal(self, document: Document, by: str) -> ImportResult:
        """Create the animal, or replace it whatever its version is."""
        animal = await self.validate_import(document)
        edit = DocumentEdit(animal.animal_id, by)
        while True:
            before = await self.store.get_document(edit.document_id)
            fields = find_changed_fields(before.document, document) if before else ()
            if before is not None:
                if not fields:
                    return ImportResult(edit.document_id, None)
                self.require_default_stays_active(edit.document_id, document)
            change = self.make_change(edit, ChangeKind.IMPORT, *fields)
            if await self.store.put_document(change, before.version if before else None, document) is not None:
                return ImportResult(edit.document_id, ChangeKind.REPLACE if before else ChangeKind.CREATE, fields)

    def make_change(self, edit: DocumentEdit, operation: ChangeKind, *fields: str) -> Change:
        return edit.make_change(operation, self.clock.now(), fields)

    def require_default_stays_active(self, animal_id: str, document: Document) -> None:
        if document["status"] != "active":
            self._require_not_required(animal_id)

    async def _replace(
        self, edit: DocumentEdit, operation: ChangeKind, before: VersionedDocument, after: Document, within: str = ""
    ) -> VersionedDocument:
        """`within`: the part of the document that the caller sent; fields in errors are named from there."""
        await self.validate(edit.document_id, after, before.document, within)
        self.require_default_stays_active(edit.document_id, after)
        fields = find_changed_fields(before.document, after)
        if not fields:
            return before
        change = self.make_change(edit, operation, *fields)
        return require_written(await self.store.put_document(change, before.version, after))

    def _require_not_required(self, animal_id: str) -> None:
        if animal_id == self._required_id:
            raise AnimalNeeded(f"{animal_id} answers when nobody is asked for (DEFAULT_ANIMAL).")


async def seed_animals(store: DocumentStore, clock: Clock) -> bool:
    """Store the packaged animals; False for a store that has animals: those are the keepers' and stay untouched."""
    if (await store.list_changes(0)).existing:
        return False
    # A tenth of a second, for which a process that shares its event loop should not stop.
    documents = await asyncio.to_thread(_read_packaged)
    return await store.seed(documents, PACKAGE, clock.now())


def parse_stored_document(stored: VersionedDocument) -> Animal:
    """The animal of a stored document, also of one that would be refused if it were written now."""
    return parse_animal(stored.document, Path(stored.document_id), stored.version)


def validate_document(document: Document, animal_id: str, within: str = "") -> Animal:
    """The animal that the document describes; `InvalidInput` says which field of it is wrong."""
    try:
        return parse_animal(document, Path(animal_id))
    except AnimalFileError as error:
        field = _dot(error.field.removeprefix(within))
        raise InvalidInput(f"{field}: {error.message}", errors=(FieldError(field, error.message),)) from None


def find_forbidden_words(
    document: Document, animal: Animal, find_broken_rule: FindBrokenRule, known: Set[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """The dotted places of texts that no animal may say, and why. `known`: texts that are taken as they are."""
    for field, text in _list_said(document):
        broken = None if text in known else find_broken_rule(text.replace("{name}", ", Mia"), animal)
        if broken is not None:
            yield field, f"breaks the rule {broken!r}: no animal may say it"


def _dot(place: str) -> str:
    """Dotted, as everywhere on the wire: `facts.0.source`, where a file's reader says `facts[0].source`."""
    return _INDEX.sub(r".\1", place)


def _list_said(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a document that an animal says or a model reads, with their dotted places."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if key not in _UNSAID:
                yield from _list_said(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _list_said(part, f"{place}.{index}")


def _read_packaged() -> dict[str, Document]:
    """By id, not validated: who reads the store does that, and the tests do it for what is packaged."""
    files = list_animal_files(PACKAGED_ANIMALS)
    return {file.stem: cast(Document, load_document(file)) for file in files}


def _merge_patch(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396), except that an empty mapping is not added."""
    merged = dict(document)
    for key, value in settings.items():
        part = _merge_patch(document.get(key, {}), value) if isinstance(value, Mapping) else value
        if part is None:
            merged.pop(key, None)
        elif part != {} or key in document:
            merged[key] = part
    return merged


def _find_fact(document: Document, fact_id: str) -> int:
    """The index of the fact, or the one that it would get."""
    facts = document["facts"]
    return next((index for index, fact in enumerate(facts) if fact["id"] == fact_id), len(facts))


def _put_fact(document: Document, index: int, fact: Mapping[str, Any]) -> Document:
    facts = document["facts"]
    return {**document, "facts": [*facts[:index], fact, *facts[index + 1 :]]}


def _delete_fact(document: Document, fact_id: str) -> Document:
    facts, index = document["facts"], _find_fact(document, fact_id)
    if index == len(facts):
        raise FactNotFound(f"GET /animal/{document['animal_id']}/facts shows those that there are.")
    return {**document, "facts": [*facts[:index], *facts[index + 1 :]]}
