"""Drafts: a changed document beside the live one, until it is promoted. Nothing that visitors reach looks here."""

from __future__ import annotations

from openapi_server.knowledge.admin.animal_admin import AnimalAdmin, AnimalEdit, validate_document
from openapi_server.models.document import Document, Draft, Operation, VersionedDocument, find_changed_fields
from openapi_server.models.errors import DraftExists, DraftNotFound, VersionMismatch


class DraftAdmin:
    """One draft an animal at a time."""

    def __init__(self, keepers: AnimalAdmin) -> None:
        self._keepers = keepers
        self._store = keepers.store

    async def get_draft(self, animal_id: str) -> Draft:
        draft = await self._store.get_draft(animal_id)
        if draft is None:
            await self._keepers.get_document(animal_id)
            raise DraftNotFound("POST /animal/{animalId}/draft makes one.")
        return draft

    async def put_draft(self, edit: AnimalEdit, document: Document) -> Draft:
        """From the version that the keeper has seen, which must be the one that is there.

        `DraftExists` when another keeper has one: a promotion would say their words, or none of them would be left.
        """
        live = await self._keepers.get_expected_version(edit)
        validate_document(document, edit.animal_id)
        draft = Draft(edit.animal_id, document, live.version, edit.by, self._keepers.clock.now())
        if not await self._store.put_draft(draft):
            other = await self.get_draft(edit.animal_id)
            raise DraftExists(f"{other.by} made one: promote or delete it first. GET /animal/{edit.animal_id}/draft")
        return draft

    async def delete_draft(self, animal_id: str) -> None:
        if not await self._store.delete_draft(animal_id):
            await self.get_draft(animal_id)

    async def promote_draft(self, edit: AnimalEdit) -> VersionedDocument:
        """`VersionMismatch` when the animal is not what the draft was made from: its changes would be undone."""
        draft = await self.get_draft(edit.animal_id)
        live = await self._keepers.get_expected_version(edit)
        if live.version != draft.based_on:
            raise VersionMismatch("The animal was changed after the draft was made: make the draft anew.")
        self._keepers.require_default_stays_active(edit.animal_id, draft.document)
        change = self._keepers.make_change(edit, Operation.PROMOTE, *find_changed_fields(live.document, draft.document))
        kept = await self._store.promote_draft(change, live.version, draft)
        if kept is None:
            raise VersionMismatch
        return kept
