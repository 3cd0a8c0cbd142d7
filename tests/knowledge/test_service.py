"""Refreshing what is searched from its store: a change is used from the next turn on, in every service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from openapi_server.knowledge.animal_admin import seed_animals
from openapi_server.knowledge.animal_files import parse_animal
from openapi_server.knowledge.index_cache import IndexCache
from openapi_server.knowledge.retrieval.query import Lexicon
from openapi_server.knowledge.retrieval.ranking import Similarities
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.models.animal import Animal
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import PACKAGE, Change, ChangeKind, Document, DocumentChanges
from openapi_server.protocols import DocumentStore
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.animal_documents import MOLE
from tests.support.examples import NOON
from tests.support.fakes import FakeClock

WASP: Document = {**MOLE, "animal_id": "wasp_001", "name": "Wanda", "species": "Common wasp"}


def make_mole(words: str) -> dict[str, Any]:
    document = deepcopy(MOLE)
    document["facts"][0]["say"] = words
    return document


def make_animal(document: Document) -> Animal:
    return parse_animal(document, Path(document["animal_id"]))


class Zoo:
    """A store, and as many services over it as a test opens."""

    def __init__(self, store: DocumentStore, parts: AsyncExitStack) -> None:
        self.store = store
        self._parts = parts

    async def open_service(self, store: DocumentStore | None = None, **options: Any) -> KnowledgeService:
        service = await KnowledgeService.open(store or self.store, **options)
        self._parts.callback(service.close)
        return service

    async def change(self, document: Document) -> None:
        kept = await self.store.get_document(document["animal_id"])
        assert kept is not None
        change = Change(kept.document_id, ChangeKind.REPLACE, "keeper1", NOON)
        assert await self.store.put_document(change, kept.version, document)


@pytest.fixture
async def zoo(tmp_path: Path) -> AsyncIterator[Zoo]:
    """A store with a mole and a wasp."""
    async with AsyncExitStack() as parts:
        store = await SqliteStore.open(tmp_path / "zoo.sqlite3", FakeClock())
        parts.push_async_callback(store.close)
        animals = SqliteAnimalDocuments(store.connections)
        await animals.seed({"mole_001": MOLE, "wasp_001": WASP}, PACKAGE, NOON)
        yield Zoo(animals, parts)


async def ask_animal(service: KnowledgeService, animal: Animal | None = None) -> str:
    animal = animal or service.get_animal("mole_001")
    assert animal is not None
    found = await service.retrieve(animal, "How fast do you dig?", ())
    ranked = await service.rerank(found, "How fast do you dig?", (), AgeGroup.ELEMENTARY)
    return ranked[0].say


class CountingIndex:
    """Records which animals it was given."""

    def __init__(self) -> None:
        self.indexed_ids: list[str] = []

    def index_animal(self, animal: Animal) -> None:
        self.indexed_ids.append(animal.animal_id)

    def compute_similarities(self, animal_id: str, message: str) -> Similarities | None:
        return None

    def close(self) -> None: ...


class UnreliableAnimalStore:
    """A store that can become unavailable."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.is_unavailable = False

    async def list_changes(self, since: int) -> DocumentChanges:
        if self.is_unavailable:
            raise StoreUnavailable
        return await self._store.list_changes(since)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_change_is_used_after_the_next_refresh(zoo: Zoo) -> None:
    """In every service over the store; the others' animals are the very same as before."""
    here, there = await zoo.open_service(), await zoo.open_service()
    wasp = there.get_animal("wasp_001")

    await zoo.change(make_mole("I dig ten metres!"))

    for service in (here, there):
        await service.refresh()
        assert await ask_animal(service) == "I dig ten metres!"
    assert there.get_animal("wasp_001") is wasp


async def test_a_turn_keeps_the_version_that_it_started_with(zoo: Zoo) -> None:
    """Also when the animal is deleted meanwhile."""
    service = await zoo.open_service()
    held = service.get_animal("mole_001")

    await zoo.change(make_mole("I dig ten metres!"))
    await service.refresh()
    assert await ask_animal(service, held) == "I dig four metres an hour!"

    kept = await zoo.store.get_document("mole_001")
    assert kept is not None
    assert await zoo.store.delete_document(Change("mole_001", ChangeKind.DELETE, "admin", NOON), kept.version)
    await service.refresh()
    assert service.get_animal("mole_001") is None
    assert [animal.animal_id for animal in service.list_animals()] == ["wasp_001"]
    assert await ask_animal(service, held) == "I dig four metres an hour!"


async def test_only_changed_animals_are_indexed_again(zoo: Zoo) -> None:
    """One of two animals; none when nothing has changed."""
    semantic_index = CountingIndex()
    service = await zoo.open_service(semantic_index=semantic_index)
    assert semantic_index.indexed_ids == ["mole_001", "wasp_001"]

    await zoo.change(make_mole("I dig ten metres!"))
    await service.refresh()
    await service.refresh()

    assert semantic_index.indexed_ids == ["mole_001", "wasp_001", "mole_001"]


async def test_concurrent_refreshes_all_see_the_change(zoo: Zoo) -> None:
    """Those that begin while it is loaded wait for it."""
    service = await zoo.open_service()
    await zoo.change(make_mole("I dig ten metres!"))

    async def ask() -> str:
        await service.refresh()
        return await ask_animal(service)

    assert set(await asyncio.gather(*(ask() for _ in range(20)))) == {"I dig ten metres!"}


async def test_an_animal_that_this_version_cannot_read_stays_as_it_was(zoo: Zoo) -> None:
    """A newer server may have written it; turns go on."""
    service = await zoo.open_service()

    await zoo.change({**make_mole("I dig ten metres!"), "wings": 2})
    await zoo.change({**WASP, "name": "Willy"})
    await service.refresh()

    assert await ask_animal(service) == "I dig four metres an hour!"
    wasp = service.get_animal("wasp_001")
    assert wasp is not None
    assert wasp.name == "Willy"
    assert [animal.animal_id for animal in (await zoo.open_service()).list_animals()] == ["wasp_001"]


async def test_an_unavailable_store_changes_nothing(zoo: Zoo) -> None:
    """The animals stay as they were loaded, and a refresh never fails."""
    store = UnreliableAnimalStore(zoo.store)
    service = await zoo.open_service(store)
    await zoo.change(make_mole("I dig ten metres!"))

    store.is_unavailable = True
    await service.refresh()
    assert await ask_animal(service) == "I dig four metres an hour!"
    store.is_unavailable = False
    await service.refresh()
    assert await ask_animal(service) == "I dig ten metres!"


async def test_a_service_of_files_has_nothing_to_refresh(tmp_path: Path) -> None:
    """Without a store, a refresh does nothing."""
    service = KnowledgeService([make_animal(MOLE)], Lexicon.load())
    try:
        await service.refresh()
        assert await ask_animal(service) == "I dig four metres an hour!"
    finally:
        service.close()


async def test_facts_of_unknown_animals_keep_their_order(zoo: Zoo) -> None:
    """They come back as they were given."""
    service = await zoo.open_service()
    unknown = make_animal(make_mole("I am not from here."))

    assert await service.rerank(unknown.facts, "How fast?", (), AgeGroup.ELEMENTARY) == list(unknown.facts)


def test_previous_versions_are_dropped_one_by_one() -> None:
    """However often keepers save, memory stays bounded; the latest versions are still there."""
    cache = IndexCache([make_animal(MOLE)], Lexicon.load())
    previous: list[Animal] = []
    for number in range(20):
        current = cache.get_animal("mole_001")
        assert current is not None
        previous.append(current)
        cache.update({"mole_001": make_animal(make_mole(f"I dig {number} metres!"))})

    assert cache.find_animal_of(previous[0].facts[0]) is None
    assert cache.find_animal_of(previous[-1].facts[0]) is previous[-1]
    assert cache.get_index(previous[0]).parse_query("dig").terms
    cache.close()


async def test_an_empty_store_gets_the_packaged_animals_once(tmp_path: Path) -> None:
    """A store that has animals is never touched by a start: what keepers wrote stays."""
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", FakeClock())
    animals = SqliteAnimalDocuments(store.connections)
    try:
        assert await seed_animals(animals, FakeClock())
        lion = await animals.get_document("lion_001")
        assert lion is not None
        renamed = {**lion.document, "name": "Leonard"}
        await animals.put_document(Change("lion_001", ChangeKind.REPLACE, "keeper1", NOON), lion.version, renamed)

        assert not await seed_animals(animals, FakeClock())
        service = await KnowledgeService.open(animals)
        service.close()
    finally:
        await store.close()

    names = {animal.animal_id: animal.name for animal in service.list_animals()}
    assert len(names) >= 14
    assert names["lion_001"] == "Leonard"
