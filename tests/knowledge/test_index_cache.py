"""The index cache, and its refresh from a store: what keepers change is told from the next turn on, everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from openapi_server.knowledge.admin import seed_animals
from openapi_server.knowledge.index_cache import IndexCache
from openapi_server.knowledge.retrieval.fusion import Similarities
from openapi_server.knowledge.retrieval.synonyms import Lexicon
from openapi_server.knowledge.schema import parse_animal
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.models.animal import Animal
from openapi_server.models.document import PACKAGE, Change, Document, DocumentChanges, Operation
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.turn import AgeGroup
from openapi_server.protocols import DocumentStore
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments
from openapi_server.storage.sqlite.store import SqliteStore
from tests.support.animal_documents import MOLE
from tests.support.examples import NOON
from tests.support.fakes import FakeClock

WASP: Document = {**MOLE, "animal_id": "wasp_001", "name": "Wanda", "species": "Common wasp"}


def mole_that_says(words: str) -> dict[str, Any]:
    document = deepcopy(MOLE)
    document["facts"][0]["say"] = words
    return document


def an_animal(document: Document) -> Animal:
    return parse_animal(document, Path(document["animal_id"]))


class Zoo:
    """A store, and as many libraries over it as a test opens."""

    def __init__(self, store: DocumentStore, parts: AsyncExitStack) -> None:
        self.store = store
        self._parts = parts

    async def library(self, store: DocumentStore | None = None, **options: Any) -> KnowledgeService:
        library = await KnowledgeService.open(store or self.store, **options)
        self._parts.callback(library.close)
        return library

    async def change(self, document: Document) -> None:
        kept = await self.store.get_document(document["animal_id"])
        assert kept is not None
        change = Change(kept.document_id, Operation.REPLACE, "keeper1", NOON)
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


async def ask_animal(library: KnowledgeService, animal: Animal | None = None) -> str:
    animal = animal or library.get_animal("mole_001")
    assert animal is not None
    found = await library.retrieve(animal, "How fast do you dig?", ())
    ranked = await library.rerank(found, "How fast do you dig?", (), AgeGroup.ELEMENTARY)
    return ranked[0].say


class CountingIndex:
    """Remembers which animals it was given to learn."""

    def __init__(self) -> None:
        self.indexed_ids: list[str] = []

    def index_animal(self, animal: Animal) -> None:
        self.indexed_ids.append(animal.animal_id)

    def compute_similarities(self, animal_id: str, message: str) -> Similarities | None:
        return None

    def close(self) -> None: ...


class UnreliableAnimalStore:
    """A store that went away after it was read once."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.is_away = False

    async def list_changes(self, since: int) -> DocumentChanges:
        if self.is_away:
            raise StoreUnavailable
        return await self._store.list_changes(since)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_change_is_told_after_the_next_refresh(zoo: Zoo) -> None:
    """In every library over the store; the others' animals are the very same as before."""
    here, there = await zoo.library(), await zoo.library()
    wasp = there.get_animal("wasp_001")

    await zoo.change(mole_that_says("I dig ten metres!"))

    for library in (here, there):
        await library.refresh()
        assert await ask_animal(library) == "I dig ten metres!"
    assert there.get_animal("wasp_001") is wasp


async def test_whoever_holds_an_animal_is_told_what_it_knew(zoo: Zoo) -> None:
    """A turn that runs keeps what it began with, also when the animal is gone."""
    library = await zoo.library()
    held = library.get_animal("mole_001")

    await zoo.change(mole_that_says("I dig ten metres!"))
    await library.refresh()
    assert await ask_animal(library, held) == "I dig four metres an hour!"

    kept = await zoo.store.get_document("mole_001")
    assert kept is not None
    assert await zoo.store.delete_document(Change("mole_001", Operation.DELETE, "admin", NOON), kept.version)
    await library.refresh()
    assert library.get_animal("mole_001") is None
    assert [animal.animal_id for animal in library.list_animals()] == ["wasp_001"]
    assert await ask_animal(library, held) == "I dig four metres an hour!"


async def test_only_what_changed_is_read_anew(zoo: Zoo) -> None:
    """One of two animals is learned again; nothing at all when there is no news."""
    meanings = CountingIndex()
    library = await zoo.library(semantic_index=meanings)
    assert meanings.indexed_ids == ["mole_001", "wasp_001"]

    await zoo.change(mole_that_says("I dig ten metres!"))
    await library.refresh()
    await library.refresh()

    assert meanings.indexed_ids == ["mole_001", "wasp_001", "mole_001"]


async def test_all_who_ask_at_once_see_the_change(zoo: Zoo) -> None:
    """Whoever comes while it is taken in waits for it."""
    library = await zoo.library()
    await zoo.change(mole_that_says("I dig ten metres!"))

    async def ask() -> str:
        await library.refresh()
        return await ask_animal(library)

    assert set(await asyncio.gather(*(ask() for _ in range(20)))) == {"I dig ten metres!"}


async def test_an_animal_that_this_version_cannot_read_stays_as_it_was(zoo: Zoo) -> None:
    """A newer server may have written it; turns go on."""
    library = await zoo.library()

    await zoo.change({**mole_that_says("I dig ten metres!"), "wings": 2})
    await zoo.change({**WASP, "name": "Willy"})
    await library.refresh()

    assert await ask_animal(library) == "I dig four metres an hour!"
    wasp = library.get_animal("wasp_001")
    assert wasp is not None
    assert wasp.name == "Willy"
    assert [animal.animal_id for animal in (await zoo.library()).list_animals()] == ["wasp_001"]


async def test_a_store_that_is_away_changes_nothing(zoo: Zoo) -> None:
    """The animals are told as they were, and a refresh never fails."""
    store = UnreliableAnimalStore(zoo.store)
    library = await zoo.library(store)
    await zoo.change(mole_that_says("I dig ten metres!"))

    store.is_away = True
    await library.refresh()
    assert await ask_animal(library) == "I dig four metres an hour!"
    store.is_away = False
    await library.refresh()
    assert await ask_animal(library) == "I dig ten metres!"


async def test_a_library_of_files_has_nothing_to_refresh(tmp_path: Path) -> None:
    """It is what it was read from."""
    library = KnowledgeService([an_animal(MOLE)], Lexicon.load())
    try:
        await library.refresh()
        assert await ask_animal(library) == "I dig four metres an hour!"
    finally:
        library.close()


async def test_facts_of_nobody_keep_their_order(zoo: Zoo) -> None:
    """Whoever comes with facts that no animal here has told gets them back as they are."""
    library = await zoo.library()
    stranger = an_animal(mole_that_says("I am not from here."))

    assert await library.rerank(stranger.facts, "How fast?", (), AgeGroup.ELEMENTARY) == list(stranger.facts)


def test_former_animals_are_forgotten_one_after_the_other() -> None:
    """However often keepers save, memory stays bounded; the latest are still known."""
    residents = IndexCache([an_animal(MOLE)], Lexicon.load())
    former: list[Animal] = []
    for number in range(20):
        current = residents.get_animal("mole_001")
        assert current is not None
        former.append(current)
        residents.update({"mole_001": an_animal(mole_that_says(f"I dig {number} metres!"))})

    assert residents.find_animal_of(former[0].facts[0]) is None
    assert residents.find_animal_of(former[-1].facts[0]) is former[-1]
    assert residents.get_index(former[0]).parse_query("dig").terms
    residents.close()


async def test_an_empty_store_gets_the_packaged_animals_once(tmp_path: Path) -> None:
    """A store that has animals is never touched by a start: what keepers wrote stays."""
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", FakeClock())
    animals = SqliteAnimalDocuments(store.connections)
    try:
        assert await seed_animals(animals, FakeClock())
        lion = await animals.get_document("lion_001")
        assert lion is not None
        renamed = {**lion.document, "name": "Leonard"}
        await animals.put_document(Change("lion_001", Operation.REPLACE, "keeper1", NOON), lion.version, renamed)

        assert not await seed_animals(animals, FakeClock())
        library = await KnowledgeService.open(animals)
        library.close()
    finally:
        await store.close()

    names = {animal.animal_id: animal.name for animal in library.list_animals()}
    assert len(names) >= 14
    assert names["lion_001"] == "Leonard"
