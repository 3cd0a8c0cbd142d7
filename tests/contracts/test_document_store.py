"""What every store of versioned documents promises, for animals and rules alike, whatever it is kept in.

A new implementation is one of the `BACKENDS`, and passes unchanged: nothing here knows of tables, keys or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openapi_server.models.errors import InvalidInput
from openapi_server.models.versioned_document import PACKAGE, Change, ChangeKind, Document, Draft, VersionedDocument
from openapi_server.protocols import DocumentStore, DraftStore
from tests.support.examples import DELICATE_TEXTS, NOON
from tests.support.fakes import FakeClock
from tests.support.stores import BACKENDS, OpensStores

RACERS = 20
ONE: Document = {"name": "Leo", "facts": [{"id": "mane", "say": "Soft!"}], "words": {"preschool": "No."}}
OTHER: Document = {**ONE, "name": "Bulan"}

OpensStore = Callable[[Path], AbstractAsyncContextManager[DocumentStore]]
OpensDraftStore = Callable[[Path], AbstractAsyncContextManager[DraftStore]]


@asynccontextmanager
async def open_animals(opens: OpensStores, folder: Path) -> AsyncIterator[DraftStore]:
    async with opens(folder, FakeClock()) as stores:
        yield stores.animals


@asynccontextmanager
async def open_rules(opens: OpensStores, folder: Path) -> AsyncIterator[DocumentStore]:
    async with opens(folder, FakeClock()) as stores:
        yield stores.rules


DRAFT_STORES: dict[str, OpensDraftStore] = {
    f"{name}-animals": partial(open_animals, opens) for name, opens in BACKENDS.items()
}
RULE_STORES: dict[str, OpensStore] = {f"{name}-rules": partial(open_rules, opens) for name, opens in BACKENDS.items()}
STORES: dict[str, OpensStore] = {**DRAFT_STORES, **RULE_STORES}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def opens(request: pytest.FixtureRequest) -> OpensStore:
    """How to open each implementation; two that are opened over one folder are two processes of one zoo."""
    opener: OpensStore = request.param
    return opener


@pytest.fixture
async def store(opens: OpensStore, tmp_path: Path) -> AsyncIterator[DocumentStore]:
    """An empty store of each implementation and kind."""
    async with opens(tmp_path) as opened:
        yield opened


@pytest.fixture(params=list(DRAFT_STORES.values()), ids=list(DRAFT_STORES))
async def draft_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DraftStore]:
    """An empty store of each implementation that has drafts."""
    async with request.param(tmp_path) as opened:
        yield opened


def a_change(operation: ChangeKind = ChangeKind.REPLACE, document_id: str = "one") -> Change:
    return Change(document_id, operation, "keeper1", NOON)


def a_draft() -> Draft:
    return Draft("one", {**ONE, "name": "Leonard"}, based_on=1, by="keeper1", at=NOON)


async def create(store: DocumentStore, document_id: str = "one", document: Document = ONE) -> VersionedDocument:
    created = await store.put_document(a_change(ChangeKind.CREATE, document_id), None, document)
    assert created is not None
    return created


async def test_an_empty_store_is_seeded_once(store: DocumentStore) -> None:
    """Each document with a version and a history; whoever comes second changes nothing."""
    assert await store.seed({"one": ONE, "other": OTHER}, PACKAGE, NOON)
    assert not await store.seed({"third": ONE}, PACKAGE, NOON)

    changes = await store.list_changes(0)
    assert {stored.document_id: stored.document for stored in changes.existing} == {"one": ONE, "other": OTHER}
    one = changes.documents["one"]
    assert one is not None
    [entry] = (await store.list_history("one", 10)).items
    assert entry == Change("one", ChangeKind.SEED, PACKAGE, NOON, (), one.version)


async def test_two_processes_that_seed_at_once_seed_once(opens: OpensStore, tmp_path: Path) -> None:
    """Of two servers that start over an empty store, one fills it."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        seeded = await asyncio.gather(one.seed({"one": ONE}, PACKAGE, NOON), other.seed({"one": ONE}, PACKAGE, NOON))

        assert sorted(seeded) == [False, True]
        assert len((await one.list_history("one", 10)).items) == 1


async def test_a_document_is_stored_with_who_wrote_it(store: DocumentStore) -> None:
    """And comes back as it was, alone and among all."""
    created = await create(store)

    assert (created.document, created.by, created.at) == (ONE, "keeper1", NOON)
    assert await store.get_document("one") == created
    changes = await store.list_changes(0)
    assert (changes.version, changes.documents) == (created.version, {"one": created})
    assert await store.get_document("other") is None


async def test_a_document_is_created_once(store: DocumentStore) -> None:
    """A taken id is refused, and nothing is written into the history."""
    created = await create(store)

    assert await store.put_document(a_change(ChangeKind.CREATE), None, OTHER) is None

    assert await store.get_document("one") == created
    assert len((await store.list_history("one", 10)).items) == 1


async def test_a_change_needs_the_version_that_is_there(store: DocumentStore) -> None:
    """Whoever has seen an older one, or none, changes nothing; each change has a version of its own."""
    first = await create(store)

    second = await store.put_document(a_change(), first.version, {**ONE, "name": "Leonard"})

    assert second is not None
    assert second.version > first.version
    assert await store.put_document(a_change(), first.version, ONE) is None
    assert await store.put_document(a_change(), None, ONE) is None
    assert await store.get_document("one") == second


async def test_what_is_not_there_is_not_changed(store: DocumentStore) -> None:
    """Nor deleted."""
    assert await store.get_document("one") is None
    assert await store.put_document(a_change(), 1, ONE) is None
    assert not await store.delete_document(a_change(ChangeKind.DELETE), 1)
    assert (await store.list_history("one", 10)).items == ()
    assert (await store.list_changes(0)).version == 0


async def test_of_many_who_change_one_version_one_succeeds(opens: OpensStore, tmp_path: Path) -> None:
    """Two keepers at two processes: nobody's work is lost without a word."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        first = await create(one)
        documents = [{**ONE, "name": f"Leo {number}"} for number in range(RACERS)]

        written = await asyncio.gather(
            *(
                (one, other)[number % 2].put_document(a_change(), first.version, document)
                for number, document in enumerate(documents)
            )
        )

        [winner] = [each for each in written if each is not None]
        assert await other.get_document("one") == winner
        assert len((await one.list_history("one", 100)).items) == 2


async def test_a_deleted_document_is_gone_and_its_history_is_not(store: DocumentStore) -> None:
    """A new one of the same id has no version that the old one had."""
    first = await create(store)

    assert not await store.delete_document(a_change(ChangeKind.DELETE), first.version + 1)
    assert await store.delete_document(a_change(ChangeKind.DELETE), first.version)

    assert await store.get_document("one") is None
    operations = [entry.operation for entry in (await store.list_history("one", 10)).items]
    assert operations == [ChangeKind.DELETE, ChangeKind.CREATE]
    again = await create(store)
    assert again.version > first.version + 1


async def test_changes_are_listed_from_a_version_on(opens: OpensStore, tmp_path: Path) -> None:
    """Another process learns of every change, of a document that is gone, too, and of nothing twice."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        await one.seed({"one": ONE, "other": OTHER}, PACKAGE, NOON)
        seen = await other.list_changes(0)
        assert list(seen.documents) == ["one", "other"]
        assert (await other.list_changes(seen.version)).documents == {}
        assert (await other.list_changes(seen.version)).version == seen.version

        before = seen.documents["one"]
        assert before is not None
        changed = await one.put_document(a_change(), before.version, {**ONE, "name": "Leonard"})
        changes = await other.list_changes(seen.version)
        assert changes.documents == {"one": changed}

        assert changed is not None
        await one.delete_document(a_change(ChangeKind.DELETE), changed.version)
        deleted = await other.list_changes(changes.version)
        assert (deleted.documents, deleted.existing) == ({"one": None}, ())
        assert deleted.version > changes.version
        assert (await other.list_changes(deleted.version)).documents == {}


async def test_the_history_comes_in_pages_latest_first(store: DocumentStore) -> None:
    """Who, when and what; every entry once."""
    stored = await create(store)
    for number in range(5):
        changed = await store.put_document(a_change(ChangeKind.CONFIGURE), stored.version, {**ONE, "number": number})
        assert changed is not None
        stored = changed
    await create(store, "other", OTHER)

    entries: list[Change] = []
    cursor: str | None = None
    while True:
        page = await store.list_history("one", 2, cursor)
        entries.extend(page.items)
        if (cursor := page.next_cursor) is None:
            break

    assert [entry.operation for entry in entries] == [*[ChangeKind.CONFIGURE] * 5, ChangeKind.CREATE]
    assert [entry.version for entry in entries] == sorted({entry.version for entry in entries}, reverse=True)
    assert entries[0] == replace(a_change(ChangeKind.CONFIGURE), version=stored.version)
    with pytest.raises(InvalidInput):
        await store.list_history("one", 2, "not ours")


async def test_the_history_says_which_fields_changed(draft_store: DraftStore) -> None:
    """In their order; of animals, whose keepers read it."""
    stored = await create(draft_store)
    change = replace(a_change(ChangeKind.CONFIGURE), fields=("voice.sound", "facts.mane.say"))

    await draft_store.put_document(change, stored.version, OTHER)

    entries = (await draft_store.list_history("one", 10)).items
    assert [entry.fields for entry in entries] == [("voice.sound", "facts.mane.say"), ()]


async def test_a_draft_lies_beside_the_document(draft_store: DraftStore) -> None:
    """One at a time; the live document, its version and the changes know nothing of it."""
    stored = await create(draft_store)
    version = (await draft_store.list_changes(0)).version

    assert await draft_store.put_draft(replace(a_draft(), document=ONE))
    assert await draft_store.put_draft(a_draft())

    assert await draft_store.get_draft("one") == a_draft()
    assert await draft_store.get_document("one") == stored
    assert (await draft_store.list_changes(version)).documents == {}
    assert await draft_store.delete_draft("one")
    assert await draft_store.get_draft("one") is None


async def test_a_draft_needs_its_document(draft_store: DraftStore) -> None:
    """There is none of what is not there, and none of what was deleted."""
    assert not await draft_store.put_draft(a_draft())
    assert await draft_store.get_draft("one") is None
    assert not await draft_store.delete_draft("one")

    stored = await create(draft_store)
    await draft_store.put_draft(a_draft())
    await draft_store.delete_document(a_change(ChangeKind.DELETE), stored.version)

    assert await draft_store.get_draft("one") is None


async def test_a_draft_is_replaced_by_whoever_made_it(draft_store: DraftStore) -> None:
    """Another keeper's stays as it was, until it is deleted."""
    await create(draft_store)
    assert await draft_store.put_draft(a_draft())

    assert not await draft_store.put_draft(replace(a_draft(), document=ONE, by="keeper2"))

    assert await draft_store.get_draft("one") == a_draft()
    assert await draft_store.delete_draft("one")
    assert await draft_store.put_draft(replace(a_draft(), by="keeper2"))


async def test_a_draft_is_promoted_once(draft_store: DraftStore) -> None:
    """Only over the version that is there, and only the draft that was read."""
    stored, draft = await create(draft_store), a_draft()
    await draft_store.put_draft(draft)
    promotion = replace(a_change(ChangeKind.PROMOTE), fields=("name",))

    assert await draft_store.promote_draft(promotion, stored.version + 1, draft) is None
    assert await draft_store.promote_draft(promotion, stored.version, replace(draft, document=ONE)) is None
    promoted = await draft_store.promote_draft(promotion, stored.version, draft)

    assert promoted is not None
    assert promoted.document["name"] == "Leonard"
    assert await draft_store.get_document("one") == promoted
    assert await draft_store.get_draft("one") is None
    assert await draft_store.promote_draft(promotion, promoted.version, draft) is None


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
async def test_every_text_comes_back_as_it_was(store: DocumentStore, text: str) -> None:
    """To the code point, as a value, as a key and in a list."""
    document = {**ONE, "summary": text, "favourites": {text: text}, "keywords": [text]}

    await create(store, document=document)

    stored = await store.get_document("one")
    assert stored is not None
    assert stored.document == document


values = st.recursive(
    st.text(max_size=20) | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_document_comes_back_as_it_was(
    opens: OpensStore, tmp_path_factory: Any, document: Document
) -> None:
    """With its members in their order."""
    async with opens(tmp_path_factory.mktemp("store")) as store:
        await create(store, document=document)

        stored = await store.get_document("one")

    assert stored is not None
    assert list(stored.document.items()) == list(document.items())
