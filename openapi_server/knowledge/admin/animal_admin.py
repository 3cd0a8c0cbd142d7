"""The keepers: how the animals are changed. Every change is checked as a whole, and kept with who made it.

Nobody is told of it here: a turn asks for news when it begins (`Knowledge.refresh`), in whichever process it runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openapi_server.knowledge.documents.schema import AnimalFileError, parse_animal
from openapi_server.models.animal import Animal
from openapi_server.models.document import Change, Document, Operation, VersionedDocument, find_changed_fields
from openapi_server.models.errors import (
    AnimalExists,
    AnimalNeeded,
    AnimalNotFound,
    FactNotFound,
    FieldError,
    InvalidInput,
    VersionMismatch,
)
from openapi_server.models.page import Page
from openapi_server.protocols import Clock, DocumentStore


@dataclass(frozen=True, slots=True)
class AnimalEdit:
    """Who wants to change which animal, and which versions of it they have seen; None: whichever is there."""

    animal_id: str
    by: str
    expected_versions: frozenset[int] | None = None


class AnimalAdmin:
    """`needed_id`: the animal that answers when nobody is asked for. It can neither retire nor go."""

    def __init__(self, store: DocumentStore, clock: Clock, needed_id: str) -> None:
        self.store = store
        self.clock = clock
        self._needed_id = needed_id

    async def get_document(self, animal_id: str) -> VersionedDocument:
        kept = await self.store.get_document(animal_id)
        if kept is None:
            raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
        return kept

    async def list_history(self, animal_id: str, limit: int, cursor: str | None) -> Page[Change]:
        """Also of an animal that is gone; `AnimalNotFound` when there never was one."""
        page = await self.store.list_history(animal_id, limit, cursor)
        if not page.items and cursor is None:
            await self.get_document(animal_id)
        return page

    async def create_animal(self, document: Document, by: str) -> VersionedDocument:
        animal = validate_document(document, document["animal_id"])
        kept = await self.store.add(self.make_change(AnimalEdit(animal.animal_id, by), Operation.CREATE), document)
        if kept is None:
            raise AnimalExists(f"{animal.animal_id} lives here. PUT /animal/{animal.animal_id} changes it.")
        return kept

    async def replace_animal(self, edit: AnimalEdit, document: Document) -> VersionedDocument:
        return await self._write(edit, Operation.REPLACE, await self.get_expected_version(edit), document)

    async def update_settings(self, edit: AnimalEdit, settings: Mapping[str, Any]) -> VersionedDocument:
        """Change some members of the document; of those that are mappings, some of theirs, and so on down. None takes
        one away."""
        before = await self.get_expected_version(edit)
        return await self._write(edit, Operation.CONFIGURE, before, _configured(before.document, settings))

    async def delete_animal(self, edit: AnimalEdit) -> None:
        kept = await self.get_expected_version(edit)
        self._require_not_needed(edit.animal_id)
        if not await self.store.delete_document(self.make_change(edit, Operation.DELETE), kept.version):
            raise VersionMismatch

    async def put_fact(self, edit: AnimalEdit, fact: Mapping[str, Any]) -> tuple[VersionedDocument, bool]:
        """Add a fact, or put it in the place of the one with its id. True: it was added."""
        before = await self.get_expected_version(edit)
        place = _place(before.document, fact["id"])
        after = _with_fact(before.document, place, fact)
        kept = await self._write(edit, Operation.PUT_FACT, before, after, within=f"facts[{place}].")
        return kept, place == len(before.document["facts"])

    async def delete_fact(self, edit: AnimalEdit, fact_id: str) -> VersionedDocument:
        before = await self.get_expected_version(edit)
        return await self._write(edit, Operation.REMOVE_FACT, before, _without_fact(before.document, fact_id))

    async def get_expected_version(self, edit: AnimalEdit) -> VersionedDocument:
        """The animal, at a version that the keeper has seen; else `VersionMismatch`."""
        kept = await self.get_document(edit.animal_id)
        if edit.expected_versions is not None and kept.version not in edit.expected_versions:
            raise VersionMismatch("Read the animal again, and make your change to what it is now.")
        return kept

    async def import_animal(self, document: Document, by: str) -> Change | None:
        """Let the animal be what the document says, whatever it was, or was not; what that changed, None: nothing."""
        edit = AnimalEdit(validate_document(document, document["animal_id"]).animal_id, by)
        while True:
            before = await self.store.get_document(edit.animal_id)
            if before is None:
                change = self.make_change(edit, Operation.IMPORT)
                kept = await self.store.add(change, document)
            else:
                change = self.make_change(edit, Operation.IMPORT, *find_changed_fields(before.document, document))
                if not change.fields:
                    return None
                self.require_default_stays_active(edit.animal_id, document)
                kept = await self.store.replace(change, before.version, document)
            if kept is not None:
                return change

    def make_change(self, edit: AnimalEdit, operation: Operation, *fields: str) -> Change:
        return Change(edit.animal_id, operation, edit.by, self.clock.now(), fields)

    def require_default_stays_active(self, animal_id: str, document: Document) -> None:
        if document["status"] != "active":
            self._require_not_needed(animal_id)

    async def _write(
        self, edit: AnimalEdit, operation: Operation, before: VersionedDocument, after: Document, within: str = ""
    ) -> VersionedDocument:
        """`within`: the part of the document that the caller sent, and so the one in which fields are named."""
        validate_document(after, edit.animal_id, within)
        self.require_default_stays_active(edit.animal_id, after)
        fields = find_changed_fields(before.document, after)
        if not fields:
            return before
        kept = await self.store.replace(self.make_change(edit, operation, *fields), before.version, after)
        if kept is None:
            raise VersionMismatch
        return kept

    def _require_not_needed(self, animal_id: str) -> None:
        if animal_id == self._needed_id:
            raise AnimalNeeded(f"{animal_id} answers when nobody is asked for (DEFAULT_ANIMAL).")


def validate_document(document: Document, animal_id: str, within: str = "") -> Animal:
    """The animal that the document describes; `InvalidInput` says which field of it is wrong."""
    try:
        return parse_animal(document, Path(animal_id))
    except AnimalFileError as error:
        # Dotted, as everywhere on the wire: `facts.0.source`, where a file's reader says `facts[0].source`.
        field = re.sub(r"\[(\d+)\]", r".\1", error.field.removeprefix(within))
        raise InvalidInput(f"{field}: {error.message}", errors=(FieldError(field, error.message),)) from None


def _configured(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch (RFC 7396), but that a mapping with nothing in it is not added."""
    merged = dict(document)
    for key, value in settings.items():
        part = _configured(document.get(key, {}), value) if isinstance(value, Mapping) else value
        if part is None:
            merged.pop(key, None)
        elif part != {} or key in document:
            merged[key] = part
    return merged


def _place(document: Document, fact_id: str) -> int:
    """Where the fact stands, or would stand."""
    facts = document["facts"]
    return next((place for place, fact in enumerate(facts) if fact["id"] == fact_id), len(facts))


def _with_fact(document: Document, place: int, fact: Mapping[str, Any]) -> Document:
    facts = document["facts"]
    return {**document, "facts": [*facts[:place], fact, *facts[place + 1 :]]}


def _without_fact(document: Document, fact_id: str) -> Document:
    place = _place(document, fact_id)
    facts = document["facts"]
    if place == len(facts):
        raise FactNotFound(f"GET /animal/{document['animal_id']}/facts shows those that there are.")
    return {**document, "facts": [*facts[:place], *facts[place + 1 :]]}
