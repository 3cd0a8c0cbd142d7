"""The animals as turns see them: loaded, refreshed after changes by any process, and searched off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from openapi_server.knowledge.animal_files import PACKAGED_ANIMALS, AnimalFileError, parse_animal, read_folder
from openapi_server.knowledge.animal_switch import detect_requested_animal, prepare_patterns
from openapi_server.knowledge.index_cache import IndexCache
from openapi_server.knowledge.retrieval.query import Lexicon
from openapi_server.knowledge.retrieval.ranking import SemanticIndex, select_facts
from openapi_server.knowledge.search import FactSearch, FoundFacts
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import VersionedDocument
from openapi_server.protocols import DocumentStore
from openapi_server.worker_threads import run_inline

T = TypeVar("T")

log = structlog.get_logger(__name__)


class KnowledgeService:
    """Implements `Knowledge`.

    What has to be looked up in an index is looked up on one worker thread: so the event loop does not wait for SQLite,
    and no index is used by two threads at a time. Without a `semantic_index`, facts are found by full-text search
    alone.
    """

    def __init__(
        self, animals: Sequence[Animal], lexicon: Lexicon, semantic_index: SemanticIndex | None = None
    ) -> None:
        self._index_cache = IndexCache(animals, lexicon)
        self._semantic_index = semantic_index
        self._search = FactSearch(self._index_cache, lexicon, semantic_index)
        self._index_semantically(animals)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")
        self._worker.submit(prepare_patterns)
        self._store: DocumentStore | None = None
        self._version = 0
        self._refresh_lock = asyncio.Lock()

    @classmethod
    def load(cls, folder: Path | None = None, semantic_index: SemanticIndex | None = None) -> KnowledgeService:
        """A service over a folder of animal files, by default the packaged one. Raises `AnimalFileError`."""
        return cls(read_folder(folder or PACKAGED_ANIMALS), Lexicon.load(), semantic_index)

    @classmethod
    async def open(cls, store: DocumentStore, semantic_index: SemanticIndex | None = None) -> KnowledgeService:
        """A service over the animals of a store; `refresh` loads what is changed there."""
        changes = await store.list_changes(0)
        animals = [animal for animal in _parse_readable(changes.documents).values() if animal is not None]
        service = cls(animals, Lexicon.load(), semantic_index)
        service._store, service._version = store, changes.version
        return service

    def close(self) -> None:
        """Wait for the worker, then close the indexes. The service cannot be used afterwards."""
        self._worker.shutdown()
        if self._semantic_index is not None:
            self._semantic_index.close()
        self._index_cache.close()

    def list_animals(self) -> Sequence[Animal]:
        return self._index_cache.list_animals()

    def get_animal(self, animal_id: str) -> Animal | None:
        return self._index_cache.get_animal(animal_id)

    async def refresh(self) -> None:
        try:
            if self._store is not None and (await self._store.list_changes(self._version)).documents:
                await self._load_changes(self._store)
        except StoreUnavailable:
            log.warning("The store is unavailable: the animals stay as they were loaded last")

    def find_requested_animal(self, message: str) -> Animal | None:
        return detect_requested_animal(message, self.list_animals())

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        question = None
        if self._semantic_index is None:
            found = await run_inline(lambda: self._search.retrieve_kept(animal, message, history))
            if isinstance(found, FoundFacts):
                return found
            question = found
        return await self._run_on_worker(lambda: self._search.retrieve(animal, message, history, question))

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        if not facts:
            return []
        if isinstance(facts, FoundFacts) and facts.answer(message, history):
            return await run_inline(lambda: select_facts(facts.scored, facts.question, history, age_group))
        return await self._run_on_worker(lambda: self._search.rerank(facts, message, history, age_group))

    async def _load_changes(self, store: DocumentStore) -> None:
        """One refresh at a time: one that waited loads only what has changed since."""
        async with self._refresh_lock:
            changes = await store.list_changes(self._version)
            changed = await self._run_on_worker(lambda: _parse_readable(changes.documents))
            await self._run_on_worker(lambda: self._index_cache.update(changed))
            self._version = changes.version
            self._index_semantically(animal for animal in changed.values() if animal is not None)

    def _index_semantically(self, animals: Iterable[Animal]) -> None:
        for animal in animals:
            if self._semantic_index is not None:
                self._semantic_index.index_animal(animal)

    async def _run_on_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _parse_readable(documents: Mapping[str, VersionedDocument | None]) -> dict[str, Animal | None]:
    """The changed animals; None: deleted. Those that only a newer version of this server can read are left out."""
    changed: dict[str, Animal | None] = {}
    for animal_id, stored in documents.items():
        try:
            changed[animal_id] = parse_animal(stored.document, Path(animal_id), stored.version) if stored else None
        except AnimalFileError as error:
            log.error("animal_unreadable", animal_id=animal_id, field=error.field, complaint=error.message)
    return changed
