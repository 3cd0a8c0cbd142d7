"""The visitors of the soak, once each, against a server without faults."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conftest import StartsServer
from tests.soak.servers import count_rows, measure_store_mb
from tests.soak.visitors import ACTIONS, Ledger, Visitor, allocate_credits
from tests.support.processes import open_store


def test_every_visitor_gets_what_it_asks_for(start_server: StartsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the soak would count its own mistakes. What was promised is in the store."""
    monkeypatch.setattr("tests.soak.visitors.SETTLED_AFTER_S", 0.0)
    server = start_server(OFFLINE_WORDS_PER_S=50, ORPHAN_GRACE=1)

    async def visit(ledger: Ledger) -> None:
        await allocate_credits(server.url)
        for number, action in enumerate(ACTIONS):
            visitor = Visitor(server.url, ledger, number)
            await visitor.act(action)
            await visitor.close()
        async with open_store(server.folder) as store:
            await ledger.check(store)

    ledger = Ledger()
    asyncio.run(visit(ledger))

    assert (ledger.unexpected, ledger.cut) == ({}, 0)
    assert ledger.replies >= 4
    assert (ledger.messages_lost, ledger.replies_lost, ledger.garbled) == (0, 0, 0)
    path = Path(server.folder / "zoo.sqlite3")
    assert count_rows(path)["turns"] > 5
    assert measure_store_mb(path) > 0.1
