"""Drafts: a changed document beside the live one, until it is promoted. Nothing that visitors reach looks here."""

from __future__ import annotations

from openapi_server.knowledge.admin.animal_admin import Edit, Keepers, checked
from openapi_server.models.document import Document, Draft, KeptAnimal, Operation, changed_fields
from openapi_server.models.errors import DraftExists, DraftNotFound, VersionMismatch


class Drafts:
    """One draft an animal at a time."""

    def __init__(self, keepers: Keepers) -> None:
        self._keepers = keepers
        self._store = keepers.store

    async def read(self, animal_id: str) -> Draft:
        draft = await self._store.draft(animal_id)
        if draft is None:
            await self._keepers.read(animal_id)
            raise DraftNotFound("POST /animal/{animalId}/draft makes one.")
        return draft

    async def make(self, edit: Edit, document: Document) -> Draft:
        """From the version that the keeper has seen, which must be the one that is there.

        `DraftExists` when another keeper has one: a promotion would say their words, or none of them would be left.
        """
        live = await self._keepers.seen(edit)
        checked(document, edit.animal_id)
        draft = Draft(edit.animal_id, document, live.version, edit.by, self._keepers.clock.now())
        if not await self._store.keep_draft(draft):
            other = await self.read(edit.animal_id)
            raise DraftExists(f"{other.by} made one: promote or delete it first. GET /animal/{edit.animal_id}/draft")
        return draft

    async def drop(self, animal_id: str) -> None:
        if not await self._store.drop_draft(animal_id):
            await self.read(animal_id)

    async def promote(self, edit: Edit) -> KeptAnimal:
        """`VersionMismatch` when the animal is not what the draft was made from: its changes would be undone."""
        draft = await self.read(edit.animal_id)
        live = await self._keepers.seen(edit)
        if live.version != draft.based_on:
            raise VersionMismatch("The animal was changed after the draft was made: make the draft anew.")
        self._keepers.require_allowed(edit.animal_id, draft.document)
        change = self._keepers.change(edit, Operation.PROMOTE, *changed_fields(live.document, draft.document))
        kept = await self._store.promote(change, live.version, draft)
        if kept is None:
            raise VersionMismatch
        return kept
