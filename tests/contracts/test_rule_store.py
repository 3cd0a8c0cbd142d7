"""What every store of rules promises, whatever it is kept in.

A new implementation adds one line to `STORES` and passes unchanged: nothing here knows of tables, keys or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from openapi_server.models.rule import RuleChange, RuleChanges, RuleDocument, RuleOperation, VersionedRule
from openapi_server.protocols import RuleStore
from openapi_server.storage.sqlite.rules import SqliteRules
from openapi_server.storage.sqlite.store import SqliteStore
from tests.support.examples import DELICATE_TEXTS, NOON
from tests.support.fakes import FakeClock

RACERS = 20
PARTY: RuleDocument = {"name": "party", "then": "words", "keywords": ["party"], "words": {"preschool": "No."}}
QUIET: RuleDocument = {**PARTY, "name": "quiet"}

OpensStore = Callable[[Path], AbstractAsyncContextManager[RuleStore]]


@asynccontextmanager
async def sqlite_rules(folder: Path) -> AsyncIterator[RuleStore]:
    store = await SqliteStore.open(folder / "zoo.sqlite3", FakeClock())
    try:
        yield SqliteRules(store.connections)
    finally:
        await store.close()


STORES: dict[str, OpensStore] = {"sqlite": sqlite_rules}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def opens(request: pytest.FixtureRequest) -> OpensStore:
    """How to open each implementation; two that are opened over one folder are two processes of one zoo."""
    opener: OpensStore = request.param
    return opener


@pytest.fixture
async def store(opens: OpensStore, tmp_path: Path) -> AsyncIterator[RuleStore]:
    """An empty store of each implementation."""
    async with opens(tmp_path) as opened:
        yield opened


def a_change(operation: RuleOperation = RuleOperation.REPLACE, name: str = "party") -> RuleChange:
    return RuleChange(name, operation, "keeper1", NOON)


async def with_party(store: RuleStore) -> VersionedRule:
    kept = await store.put_document(a_change(RuleOperation.CREATE), None, PARTY)
    assert kept is not None
    return kept


async def test_a_rule_is_kept_with_who_wrote_it(store: RuleStore) -> None:
    """And comes back as it was, alone and among all."""
    kept = await with_party(store)

    assert (kept.document, kept.by, kept.at) == (PARTY, "keeper1", NOON)
    assert await store.get_document("party") == kept
    assert await store.list_changes(0) == RuleChanges(kept.version, (kept,))
    assert await store.get_document("quiet") is None


async def test_nothing_is_no_news(store: RuleStore) -> None:
    """An empty store has none, and nobody is told of a change twice."""
    assert await store.list_changes(0) is None

    kept = await with_party(store)

    assert await store.list_changes(kept.version) is None


async def test_a_change_needs_the_version_that_is_there(store: RuleStore) -> None:
    """Whoever has seen an older one, or none, changes nothing."""
    first = await with_party(store)

    second = await store.put_document(a_change(), first.version, {**PARTY, "enabled": False})

    assert second is not None
    assert second.version > first.version
    assert await store.put_document(a_change(), first.version, PARTY) is None
    assert await store.put_document(a_change(), None, PARTY) is None
    assert await store.get_document("party") == second
    assert await store.put_document(a_change(name="quiet"), 1, QUIET) is None


async def test_a_removed_rule_is_news(opens: OpensStore, tmp_path: Path) -> None:
    """In another process, too; and a new one of its name has no version that the old one had."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        first = await with_party(one)
        seen = await other.list_changes(0)
        assert seen is not None

        assert not await one.delete_document(a_change(RuleOperation.DELETE), first.version + 1)
        assert await one.delete_document(a_change(RuleOperation.DELETE), first.version)

        gone = await other.list_changes(seen.version)
        assert gone is not None
        assert gone.rules == ()
        assert gone.version > seen.version
        assert (await with_party(one)).version > gone.version


async def test_of_many_who_change_one_version_one_succeeds(opens: OpensStore, tmp_path: Path) -> None:
    """Two keepers at two processes: nobody's work is lost without a word."""
    async with opens(tmp_path) as one, opens(tmp_path) as other:
        first = await with_party(one)
        documents = [{**PARTY, "priority": number} for number in range(RACERS)]

        kept = await asyncio.gather(
            *(
                (one, other)[number % 2].put_document(a_change(), first.version, document)
                for number, document in enumerate(documents)
            )
        )

        [winner] = [each for each in kept if each is not None]
        assert await other.get_document("party") == winner


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
async def test_every_text_comes_back_as_it_was(store: RuleStore, text: str) -> None:
    """To the code point."""
    await store.put_document(a_change(RuleOperation.CREATE), None, {**PARTY, "keywords": [text]})

    kept = await store.get_document("party")
    assert kept is not None
    assert kept.document["keywords"] == [text]
