"""What only SQLite has: a file, its schema, and what can be wrong with either."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from openapi_server.models.errors import StoreUnavailable, TurnRunning
from openapi_server.models.turn import AgeGroup, IdempotencyKey, Moderation, TurnRecord
from openapi_server.storage.sqlite import connections, database_files, migrations, turns
from openapi_server.storage.sqlite import sessions as sqlite_sessions
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.migrations import MIGRATIONS, add_usage_to_credit_entries
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import (
    NOON,
    NOTEBOOK,
    SESSION_ID,
    TURN_ID,
    WEB,
    make_failure,
    make_outcome,
    make_session,
    make_turn,
)
from tests.support.fakes import FakeClock

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zoo.sqlite3"


async def reopen(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, FakeClock())


async def fill(path: Path) -> None:
    """A file with one session in which one turn was told."""
    store = await reopen(path)
    await store.create_session(make_session())
    await store.begin_turn(make_turn())
    await store.settle_turn(TURN_ID, make_outcome())
    await store.close()


def read_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    assert isinstance(version, int)
    return version


def list_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def copy_database(path: Path, folder: Path) -> Path:
    """The database with all its companions, as it lies on the disk at this moment."""
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / path.name


def overwrite(path: Path, junk: bytes) -> None:
    for file in path.parent.glob(f"{path.name}*") if path.exists() else [path]:
        file.write_bytes(junk)


def read_bytes(path: Path) -> bytes:
    return path.read_bytes()


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def list_store_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("sqlite-")}


# Opening


async def test_the_folder_is_made_and_the_schema_with_it(tmp_path: Path) -> None:
    """A fresh checkout has neither."""
    path = tmp_path / "new" / "folder" / "zoo.sqlite3"
    await fill(path)

    assert read_version(path) == len(MIGRATIONS)


async def test_migrations_run_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old database takes the steps that it has not taken, in their order, and never one again."""
    await fill(path)
    taken: list[str] = []

    def add_a_table(db: sqlite3.Connection) -> None:
        taken.append("table")
        db.execute("CREATE TABLE lunches (animal_id TEXT)")

    def add_a_column(db: sqlite3.Connection) -> None:
        taken.append("column")
        db.execute("ALTER TABLE lunches ADD COLUMN dish TEXT")

    monkeypatch.setattr(migrations, "MIGRATIONS", [*MIGRATIONS, add_a_table, add_a_column])
    for _ in range(3):
        store = await reopen(path)
        assert await store.get_turn(TURN_ID) is not None
        await store.close()

    assert taken == ["table", "column"]
    assert read_version(path) == len(MIGRATIONS) + 2


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps before it stay, nothing of its own does, and the next start tries again."""
    await fill(path)

    def breaks(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half_done (a TEXT)")
        db.execute("this is not SQL")

    monkeypatch.setattr(migrations, "MIGRATIONS", [*MIGRATIONS, breaks])
    with pytest.raises(StoreUnavailable):
        await reopen(path)

    assert read_version(path) == len(MIGRATIONS)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'half_done'").fetchall() == []


async def test_servers_that_start_at_once_on_a_new_file_all_start(path: Path) -> None:
    """One of them makes the schema; the others wait for it and find it made."""
    stores = await asyncio.gather(*(reopen(path) for _ in range(8)))
    await asyncio.gather(*(store.ping() for store in stores))
    for store in stores:
        await store.close()

    assert read_version(path) == len(MIGRATIONS)


async def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    """An old server would not understand what it reads, and would damage what it writes."""
    await fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")

    with pytest.raises(StoreUnavailable):
        await reopen(path)
    assert read_version(path) == len(MIGRATIONS) + 1


async def test_a_store_that_cannot_open_leaves_no_thread_and_no_file_behind(tmp_path: Path) -> None:
    """Whoever retries the start a thousand times has no thousand threads."""
    path = tmp_path / "corrupt.sqlite3"
    overwrite(path, b"This is no database. " * 100)
    before = list_store_threads()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await reopen(path)

    assert list_store_threads() == before
    assert list_files(tmp_path) == ["corrupt.sqlite3"]


# Written by older versions


COUNTS = ("SELECT count(*) FROM turns", "SELECT count(*) FROM messages")
VERSION_2 = Path(__file__).with_name("version_2.sql").read_text()
LONG_AGO = replace(make_session(), last_message_at=NOON + timedelta(seconds=8), turn_count=4)


def make_time(count: int) -> datetime:
    return NOON + timedelta(seconds=count)


@pytest.fixture
async def migrated(path: Path) -> AsyncIterator[SqliteStore]:
    """A store over what version 2 had written, after one start of this version."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_2)
    store = await reopen(path)
    yield store
    await store.close()


async def test_an_older_database_reads_the_same_after_its_migration(migrated: SqliteStore, path: Path) -> None:
    """Every message, outcome, session and lease that was written when messages had roles."""
    answer = make_outcome("Roar! Löwe \u2028 🦁", at=make_time(2), sources=(WEB, NOTEBOOK))
    flagged = replace(answer, moderation=Moderation(True, ("danger",)), latency_ms=1730, first_token_ms=210)
    first = replace(
        make_turn(message="Löwe?\n🦁", outcome=flagged), age_group=AgeGroup.PRESCHOOL, metadata='{"kiosk":7}'
    )
    failure = make_failure(at=make_time(4), partial_reply="Ro")
    expected = (
        replace(first, worker="host/1/aaaa", lease_until=make_time(30)),
        make_turn("turn_failed", message="turn_failed", at=make_time(3), outcome=failure),
        make_turn("turn_silent", message="turn_silent", at=make_time(5), outcome=make_failure(at=make_time(6))),
        make_turn("turn_running", message="Still there?", at=make_time(8)),
    )

    assert read_version(path) == len(MIGRATIONS)
    assert (await migrated.list_turns(SESSION_ID, 10)).items == expected
    assert (await migrated.list_sessions("cookie:mia", 10)).items == (LONG_AGO,)
    nobodys = replace(make_session("sess_nobodys", owner=None, animal_id="tiger_001"), ttl_s=172_800, is_claimed=False)
    assert await migrated.get_session("sess_nobodys") == nobodys
    assert [lease.turn_id for lease in await migrated.list_running_turns()] == ["turn_running"]


async def test_an_older_talk_goes_on(migrated: SqliteStore) -> None:
    """Its running turn is settled, its keys still stand for its turns, and the next question finds its place."""
    key = IdempotencyKey("hash of key-1", "hash of body-1", make_time(99_999))
    assert await migrated.settle_turn("turn_running", make_outcome("Yes.", at=make_time(9)))
    assert await migrated.begin_turn(make_turn("turn_again", at=make_time(10)), None, [key]) == TURN_ID
    assert await migrated.begin_turn(make_turn("turn_new", at=make_time(10))) == "turn_new"

    replies = [turn.outcome.reply for turn in await migrated.list_latest_turns(SESSION_ID, 10) if turn.outcome]
    assert replies == ["Roar! Löwe \u2028 🦁", "Ro", None, "Yes."]
    assert await migrated.get_session(SESSION_ID) == replace(LONG_AGO, last_message_at=make_time(10), turn_count=5)


async def test_nothing_of_an_older_session_stays_when_it_is_deleted(migrated: SqliteStore, path: Path) -> None:
    """Also the copies of its messages that the migration made."""
    await migrated.delete_session(SESSION_ID)
    await migrated.close()

    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert "older_messages" not in tables
        left = [db.execute(query).fetchone()[0] for query in COUNTS]
    assert left == [0, 0]
    assert b"Still there?" not in read_bytes(path)


async def test_what_earlier_turns_have_cost_is_known_after_the_migration(path: Path) -> None:
    """What was reserved and not given back. How many tokens that was is not known."""
    steps = MIGRATIONS.index(add_usage_to_credit_entries)
    with closing(sqlite3.connect(path)) as db:
        for migration in MIGRATIONS[:steps]:
            migration(db)
        db.execute(f"PRAGMA user_version = {steps}")
        db.execute("INSERT INTO users (username, role, password_hash, created_at) VALUES ('ben', 'user', '', '')")
        changes = [("allocate", 500, None), ("reserve", -100, "turn_1"), ("settle", 60, "turn_1")]
        changes += [("reserve", -100, "turn_2"), ("refund", 100, "turn_2"), ("settle", 5, None)]
        query = "INSERT INTO credit_ledger (at, username, kind, credits, turn_id) VALUES (?, 'ben', ?, ?, ?)"
        db.executemany(query, [(make_time(0).isoformat(timespec="microseconds"), *change) for change in changes])
        db.commit()
    store = await reopen(path)
    try:
        credits = SqliteCredits(store.connections, FakeClock())
        entries = (await credits.list_entries("ben", 10)).items[::-1]
        usage = await credits.list_daily_usage("ben", date.min, date.max)
    finally:
        await store.close()

    assert [entry.spent for entry in entries] == [None, None, 40, None, None, None]
    assert [(day.turns, day.tokens, day.credits) for day in usage] == [(2, 0, 40)]


# A file that is no good


async def test_a_corrupt_file_is_unavailable_at_the_start(path: Path) -> None:
    """Our words, and when to come back; the driver's are for the log."""
    junk = os.urandom(8192)
    overwrite(path, junk)
    with pytest.raises(StoreUnavailable) as refusal:
        await reopen(path)

    assert refusal.value.retry_after_s
    assert "database" not in refusal.value.detail
    assert read_bytes(path) == junk


async def test_a_folder_in_its_place_is_unavailable(tmp_path: Path) -> None:
    """A wrong mount shows up as this."""
    with pytest.raises(StoreUnavailable):
        await reopen(tmp_path)


async def test_a_file_where_the_folder_should_be_is_unavailable(tmp_path: Path) -> None:
    """The operating system's own error does not reach the caller either."""
    overwrite(tmp_path / "data", b"I am a file.")
    with pytest.raises(StoreUnavailable):
        await reopen(tmp_path / "data" / "zoo.sqlite3")


async def test_a_file_that_breaks_while_it_is_open_is_unavailable(path: Path) -> None:
    """Reads and writes alike say so, and neither takes the process with it."""
    await fill(path)
    store = await reopen(path)
    try:
        await store.ping()
        overwrite(path, b"\xff" * 65_536)
        with pytest.raises(StoreUnavailable):
            await store.begin_turn(make_turn("turn_b"))
        with pytest.raises(StoreUnavailable):
            await store.get_session(SESSION_ID)
    finally:
        await store.close()


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of a user who may not do everything: file modes mean nothing to root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
            try:
                yield folder
            finally:
                os.seteuid(0)
        else:
            yield folder
        for part in (folder, *folder.iterdir()):
            part.chmod(0o700)


async def test_a_read_only_file_is_unavailable_to_write_to(unprivileged_folder: Path) -> None:
    """What was said can still be read; a turn is refused, and `/ready` hears of it."""
    path = unprivileged_folder / "zoo.sqlite3"
    await fill(path)
    set_mode(path, 0o400)
    store = await reopen(path)
    try:
        assert await store.get_turn(TURN_ID) is not None
        with pytest.raises(StoreUnavailable):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await store.begin_turn(make_turn("turn_b"))
    finally:
        await store.close()


async def test_a_read_only_folder_is_unavailable(unprivileged_folder: Path) -> None:
    """A new file cannot be made there."""
    set_mode(unprivileged_folder, 0o500)
    with pytest.raises(StoreUnavailable):
        await reopen(unprivileged_folder / "zoo.sqlite3")


async def test_a_folder_that_cannot_be_made_is_unavailable(unprivileged_folder: Path) -> None:
    """The parent does not let us."""
    set_mode(unprivileged_folder, 0o500)
    with pytest.raises(StoreUnavailable):
        await reopen(unprivileged_folder / "data" / "zoo.sqlite3")


# A file that others use too


async def test_a_write_lock_held_for_too_long_is_unavailable_and_passes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers read on meanwhile; when the lock is gone, writing works again without a restart."""
    await fill(path)
    monkeypatch.setattr(database_files, "BUSY_TIMEOUT_S", 0.01)
    store = await reopen(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                await store.ping()
            with pytest.raises(StoreUnavailable):
                await store.begin_turn(make_turn("turn_b"))
            assert await store.get_turn(TURN_ID) is not None
        await store.ping()
        await store.begin_turn(make_turn("turn_b"))
    finally:
        await store.close()


async def test_two_processes_have_one_referee(path: Path) -> None:
    """Fifty beginnings through two stores on one file: one wins."""
    stores = [await reopen(path) for _ in range(2)]
    await stores[0].create_session(make_session())
    results = await asyncio.gather(
        *(stores[n % 2].begin_turn(make_turn(f"turn_{n}")) for n in range(50)), return_exceptions=True
    )
    running = [lease.turn_id for lease in await stores[1].list_running_turns()]
    for store in stores:
        await store.close()

    assert [result for result in results if isinstance(result, str)] == running
    assert {result.turn_id for result in results if isinstance(result, TurnRunning)} == set(running)
    assert sum(isinstance(result, TurnRunning) for result in results) == 49


# Writes that share a transaction


def count_transactions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Gets an element for each transaction from now on."""
    transactions: list[None] = []
    transact = connections.Connections._transact

    def note_and_transact(self: connections.Connections, work: Any) -> Any:
        transactions.append(None)
        return transact(self, work)

    monkeypatch.setattr(connections.Connections, "_transact", note_and_transact)
    return transactions


async def begin_at_once(store: SqliteStore, *turns: TurnRecord) -> list[str | BaseException]:
    return await asyncio.gather(*map(store.begin_turn, turns), return_exceptions=True)


async def test_turns_that_begin_at_once_share_a_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are stored when they are answered: another process sees them."""
    store = await reopen(path)
    for n in range(10):
        await store.create_session(make_session(f"sess_{n}"))
    transactions = count_transactions(monkeypatch)

    begun = await begin_at_once(store, *(make_turn(f"turn_{n}", f"sess_{n}") for n in range(10)))

    assert begun == [f"turn_{n}" for n in range(10)]

    assert len(transactions) == 1
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM turns").fetchone() == (10,)
    await store.close()


@pytest.mark.parametrize("at", range(3))
async def test_a_write_that_fails_beside_others_leaves_nothing_of_its_own(path: Path, at: int) -> None:
    """Whether the schema refuses it or a rule of ours; the others are stored."""
    store = await reopen(path)
    for n in range(3):
        await store.create_session(make_session(f"sess_{n}"))
    good = [make_turn(f"turn_{n}", f"sess_{n}") for n in range(3)]
    message: Any = None
    refused = make_turn("turn_refused", f"sess_{at}", message=message)
    second = make_turn("turn_second", f"sess_{at}")

    results = await begin_at_once(store, *good[:at], refused, *good[at:], second)
    running = {lease.turn_id for lease in await store.list_running_turns()}
    await store.close()

    assert [type(result) for result in results if not isinstance(result, str)] == [StoreUnavailable, TurnRunning]
    assert running == {"turn_0", "turn_1", "turn_2"}


async def test_writes_whose_transaction_is_lost_are_done_one_by_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that makes SQLite roll back all of it does not take the others with it."""
    store = await reopen(path)
    for n in range(3):
        await store.create_session(make_session(f"sess_{n}"))
    begin = turns.begin_turn

    def lose_the_transaction(db: sqlite3.Connection, turn: TurnRecord, *args: Any) -> str:
        if turn.turn_id == "turn_1":
            db.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return begin(db, turn, *args)

    monkeypatch.setattr(sqlite_sessions, "begin_turn", lose_the_transaction)
    results = await begin_at_once(store, *(make_turn(f"turn_{n}", f"sess_{n}") for n in range(3)))
    running = {lease.turn_id for lease in await store.list_running_turns()}
    await store.close()

    assert [str(result) if isinstance(result, str) else type(result) for result in results] == [
        "turn_0",
        StoreUnavailable,
        "turn_2",
    ]
    assert running == {"turn_0", "turn_2"}


async def test_writes_that_cannot_begin_wait_for_the_lock_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one after the other: a turn would wait for as many seconds as there are turns before it."""
    await fill(path)
    monkeypatch.setattr(database_files, "BUSY_TIMEOUT_S", 0.01)
    store = await reopen(path)
    transactions = count_transactions(monkeypatch)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        results = await begin_at_once(store, *(make_turn(f"turn_{n}") for n in range(5)))
    await store.close()

    assert [type(result) for result in results] == 5 * [StoreUnavailable]
    assert len(transactions) == 1


async def test_a_turn_whose_caller_left_is_written_with_the_others(path: Path) -> None:
    """As every write that was asked for."""
    store = await reopen(path)
    for n in range(2):
        await store.create_session(make_session(f"sess_{n}"))
    leaving, staying = (asyncio.ensure_future(store.begin_turn(make_turn(f"turn_{n}", f"sess_{n}"))) for n in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == "turn_1"
    running = {lease.turn_id for lease in await store.list_running_turns()}
    await store.close()

    assert leaving.cancelled()
    assert running == {"turn_0", "turn_1"}


async def test_closing_waits_for_turns_that_have_just_begun(path: Path) -> None:
    """Those that wait for others to share their transaction are written, too."""
    store = await reopen(path)
    await store.create_session(make_session())
    begun = asyncio.ensure_future(store.begin_turn(make_turn()))
    await asyncio.sleep(0)
    await store.close()

    assert await begun == TURN_ID
    with pytest.raises(RuntimeError):
        await store.begin_turn(make_turn("turn_late"))


# Closing, and what is left


async def test_everything_survives_a_reopen(path: Path) -> None:
    """Sessions, settled turns, and those that run."""
    await fill(path)
    store = await reopen(path)
    await store.begin_turn(make_turn("turn_b"))
    before = [await store.get_session(SESSION_ID), await store.get_turn(TURN_ID), await store.get_turn("turn_b")]
    await store.close()

    store = await reopen(path)
    after = [await store.get_session(SESSION_ID), await store.get_turn(TURN_ID), await store.get_turn("turn_b")]
    running = await store.list_running_turns()
    await store.close()
    assert after == before
    assert None not in before
    assert [lease.turn_id for lease in running] == ["turn_b"]


async def test_what_was_written_survives_a_process_that_never_closed(path: Path, tmp_path: Path) -> None:
    """A copy of the files as `kill -9` would leave them opens with all that was answered for."""
    store = await reopen(path)
    await store.create_session(make_session())
    await store.begin_turn(make_turn())
    killed = copy_database(path, tmp_path / "killed")
    await store.close()

    reopened = await reopen(killed)
    try:
        assert [lease.turn_id for lease in await reopened.list_running_turns()] == [TURN_ID]
        assert await reopened.get_turn(TURN_ID) == make_turn()
    finally:
        await reopened.close()


async def test_the_wal_file_is_gone_after_close(path: Path) -> None:
    """One file to copy, to move and to delete; while it is open there are more."""
    store = await reopen(path)
    await store.create_session(make_session())
    await asyncio.gather(*(store.get_session(SESSION_ID) for _ in range(10)))
    assert "zoo.sqlite3-wal" in list_files(path.parent)
    await store.close()

    assert list_files(path.parent) == ["zoo.sqlite3"]
    assert list_store_threads() == set()


async def test_closing_waits_for_work_in_hand(path: Path) -> None:
    """A write that was asked for before the end is kept."""
    store = await reopen(path)
    writes = [asyncio.ensure_future(store.create_session(make_session(f"sess_{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)

    store = await reopen(path)
    assert len((await store.list_sessions("cookie:mia", 50)).items) == 20
    await store.close()


async def test_a_write_that_fails_in_the_middle_leaves_nothing(path: Path) -> None:
    """A turn's row and its message are kept together or not at all."""
    store = await reopen(path)
    await store.create_session(make_session())
    with pytest.raises(StoreUnavailable):
        # The message is what the schema refuses, after the turn's own row was written.
        await store.begin_turn(make_turn(message=None))  # type: ignore[arg-type]
    running, session = await store.list_running_turns(), await store.get_session(SESSION_ID)
    await store.close()

    assert list(running) == []
    assert session == make_session()


async def test_nothing_of_a_deleted_session_stays_in_the_file(path: Path) -> None:
    """Deleted pages are overwritten: the words are not in the bytes either."""
    store = await reopen(path)
    await store.create_session(make_session())
    for n in range(20):
        await store.begin_turn(make_turn(f"turn_{n}", message=f"my phone number is 555-{n:04} " * 100))
        await store.settle_turn(f"turn_{n}", make_outcome("I shall not tell 555 " * 100))
    await store.delete_session(SESSION_ID)
    await store.close()

    raw = read_bytes(path)
    assert b"555" not in raw
    assert SESSION_ID.encode() not in raw
