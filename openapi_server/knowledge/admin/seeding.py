"""The zoo as it is delivered: the packaged animals, for a store that has none."""

from __future__ import annotations

import asyncio

from openapi_server.knowledge.documents.schema import list_animal_files, read_document
from openapi_server.knowledge.service import PACKAGED_ANIMALS
from openapi_server.models.document import PACKAGE, Document
from openapi_server.protocols import Clock, DocumentStore


async def seed_animals(store: DocumentStore, clock: Clock) -> bool:
    """Fill an empty store; False for one that has animals, which is never touched: they are the keepers' now."""
    news = await store.list_changes(0)
    if any(news.documents.values()):
        return False
    # A quarter of a second, which a process that shares its loop should not stand still for.
    documents = await asyncio.to_thread(_packaged)
    return await store.seed(documents, PACKAGE, clock.now())


def _packaged() -> list[Document]:
    return [read_document(file) for file in list_animal_files(PACKAGED_ANIMALS)]
