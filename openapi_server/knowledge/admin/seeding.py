"""The zoo as it is delivered: the packaged animals, for a store that has none."""

from __future__ import annotations

import asyncio

from openapi_server.knowledge.documents.schema import animal_files, read_document
from openapi_server.knowledge.service import PACKAGED_ANIMALS
from openapi_server.models.document import PACKAGE, Document
from openapi_server.protocols import AnimalStore, Clock


async def seed(store: AnimalStore, clock: Clock) -> bool:
    """Fill an empty store; False for one that has animals, which is never touched: they are the keepers' now."""
    news = await store.news(0)
    if any(news.animals.values()):
        return False
    # A quarter of a second, which a process that shares its loop should not stand still for.
    documents = await asyncio.to_thread(_packaged)
    return await store.fill(documents, PACKAGE, clock.now())


def _packaged() -> list[Document]:
    return [read_document(file) for file in animal_files(PACKAGED_ANIMALS)]
