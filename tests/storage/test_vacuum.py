"""Of what was deleted no byte is left in the database's files."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from openapi_server.models.personal_data import DataSubject
from openapi_server.storage.sqlite.database_files import open_database
from openapi_server.storage.sqlite.personal_data import SqlitePersonalData
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import NOTEBOOK, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock
from tests.support.report import Report

VISITORS, TURNS_EACH = 24, 15
ERASED = range(0, VISITORS, 3)


def make_owner(visitor: int) -> str:
    return f"cookie:{visitor:040x}"


async def fill(store: SqliteStore, clock: FakeClock) -> None:
    """Talks of many visitors, whose turns come in turns, with messages of every length that a page can be split at."""
    dice = random.Random(7)  # noqa: S311
    for visitor in range(VISITORS):
        session = make_session(f"sess_{visitor:032x}", owner=make_owner(visitor), at=clock.now())
        await store.create_session(replace(session, title=f"Title-{visitor:04}-", opening=f"Opening-{visitor:04}-"))
    for number in range(TURNS_EACH):
        for visitor in range(VISITORS):
            secret = f"Secret-{visitor:04}-{number:04} "
            turn = make_turn(
                f"turn_{dice.getrandbits(128):032x}", f"sess_{visitor:032x}", message=secret, at=clock.now()
            )
            message = secret * dice.choice([1, 2, 5, 30, 100, 200])
            turn = replace(
                turn, message=message, metadata=f'{{"kiosk":"{secret}"}}', media_urls=(f"https://x/{secret}",)
            )
            await store.begin_turn(turn)
            outcome = make_outcome(secret * dice.choice([1, 5, 40]), at=clock.now(), sources=(NOTEBOOK,))
            await store.settle_turn(turn.turn_id, outcome)


def find_traces(folder: Path) -> list[str]:
    """Which of the erased visitors' words and ids stand anywhere in the database's files, the log's included."""
    raw = b"".join(file.read_bytes() for file in folder.iterdir())
    words = [f"Secret-{visitor:04}-{number:04}" for visitor in ERASED for number in range(TURNS_EACH)]
    for visitor in ERASED:
        words += [f"Title-{visitor:04}-", f"Opening-{visitor:04}-", f"sess_{visitor:032x}", make_owner(visitor)]
    assert b"Secret-0001-0001" in raw, "what is kept is kept"
    return [word for word in words if word.encode() in raw]


async def test_what_is_erased_leaves_no_byte_in_any_file(tmp_path: Path, report: Report) -> None:
    """Overwriting is not enough: the copies that split pages left behind go when the file is written anew."""
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    try:
        await fill(store, clock)
        privacy = SqlitePersonalData(store.connections, clock)
        for visitor in ERASED:
            await privacy.erase(DataSubject(owner=make_owner(visitor)))
        overwritten = len(find_traces(tmp_path))

        assert await store.vacuum()
        assert find_traces(tmp_path) == []
    finally:
        await store.close()
    assert find_traces(tmp_path) == []
    report(f"erased, then vacuumed: {overwritten} words left in the files before, 0 after")


async def test_a_deleted_session_leaves_no_byte_either(tmp_path: Path) -> None:
    """A session that is deleted by its owner."""
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    try:
        await fill(store, clock)
        for visitor in ERASED:
            await store.delete_session(f"sess_{visitor:032x}")
        assert await store.vacuum()
        assert find_traces(tmp_path) == []
    finally:
        await store.close()


async def test_a_store_that_is_too_large_is_not_copied(tmp_path: Path) -> None:
    """The log is cut off all the same; whoever asks without a limit gets all of it done."""
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    try:
        await fill(store, clock)
        size = (tmp_path / "zoo.sqlite3").stat().st_size
        assert await store.vacuum(at_most_bytes=size // 2) is False
        assert (tmp_path / "zoo.sqlite3-wal").stat().st_size == 0
        assert await store.vacuum() is True
    finally:
        await store.close()


async def test_where_nothing_was_written_nothing_is_copied(tmp_path: Path) -> None:
    """An idle server does not write its whole database every hour."""
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    try:
        await fill(store, clock)
        assert await store.vacuum()
        before = (tmp_path / "zoo.sqlite3").stat().st_mtime_ns
        assert await store.vacuum()
        assert (tmp_path / "zoo.sqlite3").stat().st_mtime_ns == before
        with closing(sqlite3.connect(tmp_path / "zoo.sqlite3")) as another:
            another.execute("DELETE FROM sessions WHERE owner = ?", (make_owner(0),))
            another.commit()
        assert await store.vacuum()
        assert (tmp_path / "zoo.sqlite3").stat().st_mtime_ns > before
    finally:
        await store.close()


async def test_a_reader_in_the_way_is_told_and_harmed_by_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on reading what it began with; the log is cut off the next time."""
    monkeypatch.setattr("openapi_server.storage.sqlite.database_files.BUSY_TIMEOUT_S", 0.1)
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    reader = open_database(tmp_path / "zoo.sqlite3")
    try:
        await fill(store, clock)
        reader.execute("BEGIN")
        (count,) = reader.execute("SELECT count(*) FROM turns").fetchone()
        await store.delete_session(f"sess_{0:032x}")

        assert await store.vacuum() is False
        assert reader.execute("SELECT count(*) FROM turns").fetchone()[0] == count
        reader.execute("COMMIT")
        assert await store.vacuum() is True
    finally:
        reader.close()
        await store.close()


async def test_turns_that_begin_meanwhile_wait_and_are_kept(tmp_path: Path) -> None:
    """Nobody is refused: they stand in line behind it."""
    clock = FakeClock()
    store = await SqliteStore.open(tmp_path / "zoo.sqlite3", clock)
    try:
        await fill(store, clock)
        begun = [
            store.begin_turn(make_turn(f"turn_{n}", f"sess_{n:032x}", message="Meanwhile", at=clock.now()))
            for n in range(VISITORS)
        ]
        is_vacuumed, *turn_ids = await asyncio.gather(store.vacuum(), *begun)
        assert is_vacuumed in (True, False)
        for turn_id in turn_ids:
            assert await store.get_turn(str(turn_id)) is not None
    finally:
        await store.close()
