"""Reads that callers share: few of them, and nobody sees less than if it had read alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.versioned_document import Change, ChangeKind
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import NOON
from tests.support.fakes import FakeClock

CREATION = Change("lion_001", ChangeKind.CREATE, "keeper1", NOON)


@pytest.fixture
async def connections(tmp_path: Path) -> AsyncIterator[Connections]:
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", FakeClock())
    yield store.connections
    await store.close()


async def test_turns_that_start_together_share_a_read(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one reads alone, and the others, which came while it ran, together; where none reads at once."""
    monkeypatch.setattr(connections, "read_at_once", lambda work: None)
    documents = SqliteAnimalDocuments(connections)
    read, begun, count = connections.read, asyncio.Event(), 0

    async def note_and_read(work):  # type: ignore[no-untyped-def]
        nonlocal count
        count += 1
        begun.set()
        return await read(work)

    monkeypatch.setattr(connections, "read", note_and_read)
    first = asyncio.create_task(documents.list_changes(0))
    async with asyncio.timeout(30):
        await begun.wait()
    changes = await asyncio.gather(first, *(documents.list_changes(0) for _ in range(20)))

    assert count == 2
    assert {change.version for change in changes} == {0}


@pytest.mark.parametrize("reads_at_once", [True, False])
async def test_who_asks_after_a_change_sees_it(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, reads_at_once: bool
) -> None:
    """Also when a read from before the change still runs."""
    if not reads_at_once:
        monkeypatch.setattr(connections, "read_at_once", lambda work: None)
    documents = SqliteAnimalDocuments(connections)
    for round_ in range(20):
        before = [asyncio.create_task(documents.list_changes(round_)) for _ in range(3)]
        version = (await documents.list_changes(0)).version
        current = version or None
        written = await documents.put_document(CREATION, current, {"name": f"Leo {round_}"})
        assert written is not None

        after = await asyncio.gather(*(documents.list_changes(round_) for _ in range(3)))

        assert {change.version for change in after} == {written.version}
        await asyncio.gather(*before)


async def test_a_caller_that_leaves_takes_nothing_from_the_others(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "read_at_once", lambda work: None)
    documents = SqliteAnimalDocuments(connections)
    leaving, staying = (asyncio.create_task(documents.list_changes(0)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()

    assert (await staying).version == 0
    assert leaving.cancelled()


async def test_a_failure_reaches_all_and_the_next_read_begins_anew(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = SqliteAnimalDocuments(connections)
    with monkeypatch.context() as broken:

        async def fail(work: object) -> sqlite3.Row:
            raise StoreUnavailable(retry_after_s=1)

        broken.setattr(connections, "read_at_once", lambda work: None)
        broken.setattr(connections, "read", fail)
        results = await asyncio.gather(*(documents.list_changes(0) for _ in range(5)), return_exceptions=True)

    assert [type(result) for result in results] == [StoreUnavailable] * 5
    assert (await documents.list_changes(0)).version == 0
