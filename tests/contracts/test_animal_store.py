"""What every store of animals promises, whatever it is kept in.

A new implementation adds one line to `STORES` and passes unchanged: nothing here knows of tables, keys or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openapi_server.models.document import PACKAGE, Change, Document, Draft, Operation, VersionedDocument
from openapi_server.models.errors import InvalidInput
from openapi_server.protocols import DocumentStore
from openapi_server.storage.sqlite.animals import SqliteAnimals
from openapi_server.storage.sqlite.store import SqliteStore
from tests.support.examples import DELICATE_TEXTS, NOON
from tests.support.fakes import FakeClock

RACERS = 20
LION: Document = {"animal_id": "lion_001", "name": "Leo", "facts": [{"id": "mane", "say": "Soft!"}]}
TIGER: Document = {**LION, "animal_id": "tiger_001", "name": "Bulan"}

OpensStore = Callable[[Path], AbstractAsyncContextManager[DocumentStore]]


@asynccontextmanager
async def sqlite_animals(folder: Path) -> AsyncIterator[DocumentStore]:
    store = await SqliteStore.open(folder / "zoo.sqlite3", FakeClock())
    try:
        yield SqliteAnimals(store.connections)
    finally:
        await store.close()


STORES: dict[str, OpensStore] = {"sqlite": sqlite_animals}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def opens(request: pytest.FixtureRequest) -> OpensStore:
    """How to open each implementation; two that are opened over one folder are two processes of one zoo."""
    opener: OpensStore = request.param
    return opener


@pytest.fixture
async def store(opens: OpensStore, tmp_path: Path) -> AsyncIterator[DocumentStore]:
    """An empty store of each implementation."""
    async with opens(tmp_path) as opened:
        yield opened


def a_change(operation: Operation = Operation.REPLACE, *fields: str, animal_id: str = "lion_001") -> Change:
    return Change(animal_id, operation, "keeper1", NOON, fields)


def a_draft(**changed: Any) -> Draft:
    return Draft("lion_001", {**LION, "name": "Leonard"}, based_on=1, by="keeper1", at=NOON)


async def with_lion(store: DocumentStore) -> VersionedDocument:
    kept = await store.add(a_change(Operation.CREATE), LION)
    assert kept is not None
    return kept


async def test_an_empty_store_is_filled_once(store: DocumentStore) -> None:
    """Each animal with a version and a history; whoever comes second changes nothing."""
    assert await store.seed([LION, TIGER], PACKAGE, NOON)
    assert not await store.seed([{**LION, "name": "Leonard"}], PACKAGE, NOON)

    news = await store.list_changes(0)
    assert {animal_id: kept.document for animal_id, kept in news.documents.items() if kept} == {
        "lion_001": LION,
        "tiger_001": TIGER,
    }
    lion = news.documents["lion_001"]
    assert lion is not None
    [entry] = (await store.list_history("lion_001", 10)).items
    assert entry == Change("lion_001", Operation.SEED, PACKAGE, NOON, (), lion.version)


async def test_two_processes_that_fill_at_once_fill_once(opens: OpensStore, tmp_path: Path) -> None:
    """Of two servers that start over an empty store, one fills it."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        filled = await asyncio.gather(one.seed([LION], PACKAGE, NOON), other.seed([LION], PACKAGE, NOON))

        assert sorted(filled) == [False, True]
        assert len((await one.list_history("lion_001", 10)).items) == 1


async def test_an_animal_is_added_once(store: DocumentStore) -> None:
    """A taken id is refused, and nothing is written into the history."""
    kept = await with_lion(store)

    assert await store.get_document("lion_001") == kept
    assert await store.add(a_change(Operation.CREATE), TIGER) is None
    assert await store.get_document("lion_001") == kept
    assert len((await store.list_history("lion_001", 10)).items) == 1


async def test_a_change_needs_the_version_that_is_there(store: DocumentStore) -> None:
    """Whoever has seen an older one changes nothing; each change has a version of its own."""
    first = await with_lion(store)

    second = await store.replace(a_change(), first.version, {**LION, "name": "Leonard"})

    assert second is not None
    assert second.version > first.version
    assert await store.replace(a_change(), first.version, LION) is None
    assert await store.get_document("lion_001") == second


async def test_what_is_not_there_is_not_changed(store: DocumentStore) -> None:
    """Nor removed, nor drafted."""
    assert await store.get_document("lion_001") is None
    assert await store.replace(a_change(), 1, LION) is None
    assert not await store.delete_document(a_change(Operation.DELETE), 1)
    assert not await store.put_draft(a_draft())
    assert await store.get_draft("lion_001") is None
    assert not await store.delete_draft("lion_001")
    assert (await store.list_history("lion_001", 10)).items == ()


async def test_of_many_who_change_one_version_one_succeeds(opens: OpensStore, tmp_path: Path) -> None:
    """Two keepers at two processes: nobody's work is lost without a word."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        first = await with_lion(one)
        documents = [{**LION, "name": f"Leo {number}"} for number in range(RACERS)]

        kept = await asyncio.gather(
            *(
                (one, other)[number % 2].replace(a_change(), first.version, document)
                for number, document in enumerate(documents)
            )
        )

        [winner] = [each for each in kept if each is not None]
        assert await other.get_document("lion_001") == winner
        assert len((await one.list_history("lion_001", 100)).items) == 2


async def test_a_removed_animal_is_gone_and_its_history_is_not(store: DocumentStore) -> None:
    """A new one of the same id has no version that the old one had."""
    first = await with_lion(store)
    await store.put_draft(a_draft())

    assert not await store.delete_document(a_change(Operation.DELETE), first.version + 1)
    assert await store.delete_document(a_change(Operation.DELETE), first.version)

    assert await store.get_document("lion_001") is None
    assert await store.get_draft("lion_001") is None
    operations = [entry.operation for entry in (await store.list_history("lion_001", 10)).items]
    assert operations == [Operation.DELETE, Operation.CREATE]
    again = await with_lion(store)
    assert again.version > first.version + 1


async def test_news_are_what_has_changed_since(opens: OpensStore, tmp_path: Path) -> None:
    """Another process learns of every change, of an animal that is gone, too, and of nothing twice."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        await one.seed([LION, TIGER], PACKAGE, NOON)
        seen = await other.list_changes(0)
        assert (await other.list_changes(seen.version)).documents == {}
        assert (await other.list_changes(seen.version)).version == seen.version

        lion = seen.documents["lion_001"]
        assert lion is not None
        changed = await one.replace(a_change(), lion.version, {**LION, "name": "Leonard"})
        news = await other.list_changes(seen.version)
        assert news.documents == {"lion_001": changed}

        assert changed is not None
        await one.delete_document(a_change(Operation.DELETE), changed.version)
        gone = await other.list_changes(news.version)
        assert gone.documents == {"lion_001": None}
        assert (await other.list_changes(gone.version)).documents == {}


async def test_the_history_comes_in_pages_latest_first(store: DocumentStore) -> None:
    """Who, when, what and which fields; every entry once."""
    kept = await with_lion(store)
    for number in range(5):
        changed = await store.replace(a_change(Operation.CONFIGURE, f"voice.{number}"), kept.version, LION)
        assert changed is not None
        kept = changed
    await store.add(a_change(Operation.CREATE, animal_id="tiger_001"), TIGER)

    entries: list[Change] = []
    cursor: str | None = None
    while True:
        page = await store.list_history("lion_001", 2, cursor)
        entries.extend(page.items)
        if (cursor := page.next_cursor) is None:
            break

    assert [entry.fields for entry in entries] == [*((f"voice.{number}",) for number in (4, 3, 2, 1, 0)), ()]
    assert entries[0] == replace(a_change(Operation.CONFIGURE, "voice.4"), version=kept.version)
    with pytest.raises(InvalidInput):
        await store.list_history("lion_001", 2, "not ours")


async def test_a_draft_lies_beside_the_animal(store: DocumentStore) -> None:
    """One at a time; the live animal, its version and the news know nothing of it."""
    kept = await with_lion(store)
    version = (await store.list_changes(0)).version

    assert await store.put_draft(replace(a_draft(), document=LION))
    assert await store.put_draft(a_draft())

    assert await store.get_draft("lion_001") == a_draft()
    assert await store.get_document("lion_001") == kept
    assert (await store.list_changes(version)).documents == {}
    assert await store.delete_draft("lion_001")
    assert await store.get_draft("lion_001") is None


async def test_a_draft_is_replaced_by_whoever_made_it(store: DocumentStore) -> None:
    """Another keeper's stays as it was, until it is deleted."""
    await with_lion(store)
    assert await store.put_draft(a_draft())

    assert not await store.put_draft(replace(a_draft(), document=LION, by="keeper2"))

    assert await store.get_draft("lion_001") == a_draft()
    assert await store.delete_draft("lion_001")
    assert await store.put_draft(replace(a_draft(), by="keeper2"))


async def test_a_draft_is_promoted_once(store: DocumentStore) -> None:
    """Only over the version that is there, and only the draft that was read."""
    kept = await with_lion(store)
    draft = a_draft()
    await store.put_draft(draft)
    promotion = a_change(Operation.PROMOTE, "name")

    assert await store.promote_draft(promotion, kept.version + 1, draft) is None
    assert await store.promote_draft(promotion, kept.version, replace(draft, document=LION)) is None
    promoted = await store.promote_draft(promotion, kept.version, draft)

    assert promoted is not None
    assert promoted.document["name"] == "Leonard"
    assert await store.get_document("lion_001") == promoted
    assert await store.get_draft("lion_001") is None
    assert await store.promote_draft(promotion, promoted.version, draft) is None


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
async def test_every_text_comes_back_as_it_was(store: DocumentStore, text: str) -> None:
    """To the code point, as a value and as a key."""
    document = {**LION, "summary": text, "favourites": {text: text}}

    await store.add(a_change(Operation.CREATE), document)

    kept = await store.get_document("lion_001")
    assert kept is not None
    assert kept.document == document


values = st.recursive(
    st.text(max_size=20) | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_document_comes_back_as_it_was(opens: OpensStore, tmp_path_factory: Any, members: Document) -> None:
    """With its members in their order."""
    document = {**members, "animal_id": "lion_001"}
    async with opens(tmp_path_factory.mktemp("store")) as store:
        await store.add(a_change(Operation.CREATE), document)

        kept = await store.get_document("lion_001")

    assert kept is not None
    assert list(kept.document.items()) == list(document.items())
