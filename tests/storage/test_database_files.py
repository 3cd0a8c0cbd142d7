"""The database's files, changed under a store that is open: nothing that was stored is lost without a word."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from openapi_server.models.errors import StoreUnavailable
from openapi_server.storage.sqlite.database_files import explain_failure
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.examples import SESSION_ID, make_session
from tests.support.fakes import FakeClock

WAIT_S = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zoo.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(path, FakeClock())
    yield opened
    await opened.close()


async def read_from_file(path: Path, session_id: str) -> bool:
    """Whether a server that starts now finds the session."""
    again = await SqliteStore.open(path, FakeClock())
    try:
        return await again.get_session(session_id) is not None
    finally:
        await again.close()


def list_events(lines: Sequence[Mapping[str, object]]) -> list[object]:
    return [line["event"] for line in lines]


def move(old: Path, new: Path) -> None:
    old.rename(new)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def delete(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


async def make_backup(path: Path, session_id: str) -> None:
    """A database of this server, in one file, with one session."""
    other = await SqliteStore.open(path, FakeClock())
    await other.create_session(make_session(session_id))
    await other.close()


@pytest.mark.parametrize("pattern", ["zoo.sqlite3", "zoo.sqlite3*"])
async def test_a_deleted_file_refuses_every_use(store: SqliteStore, path: Path, pattern: str) -> None:
    """SQLite goes on with it, and all that is said would be lost at the end. One log line, not one for each use."""
    await store.create_session(make_session())
    delete(*path.parent.glob(pattern))

    with capture_logs() as lines:
        with pytest.raises(StoreUnavailable) as refusal:
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await store.create_session(make_session("sess_lost"))
        with pytest.raises(StoreUnavailable):
            await store.get_session(SESSION_ID)
    assert refusal.value.retry_after_s
    assert list_events(lines) == ["store_file_missing"]
    assert list(path.parent.glob("zoo.sqlite3")) == []


async def test_a_file_that_is_moved_back_is_used_again(store: SqliteStore, path: Path) -> None:
    """Without a restart, and with all that is in it."""
    await store.create_session(make_session())
    move(path, path.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable):
        await store.ping()
    move(path.with_name("elsewhere"), path)

    await store.ping()
    await store.create_session(make_session("sess_later"))
    assert await store.get_session(SESSION_ID) is not None
    await store.close()
    assert await read_from_file(path, "sess_later")


@pytest.mark.parametrize("is_log_left", [True, False])
async def test_a_backup_that_is_put_in_its_place_is_opened(
    store: SqliteStore, path: Path, *, is_log_left: bool
) -> None:
    """The old file's log, which may be left beside it, is not played into the backup."""
    backup = path.with_name("backup")
    await make_backup(backup, "sess_backup")
    await store.create_session(make_session("sess_old"))
    await store.get_session("sess_old")
    delete(*path.parent.glob("zoo.sqlite3" if is_log_left else "zoo.sqlite3*"))
    move(backup, path)

    with capture_logs() as lines:
        assert await store.get_session("sess_backup") is not None
        assert await store.get_session("sess_old") is None
        await store.create_session(make_session("sess_new"))
    assert list_events(lines) == ["store_reopened"]
    await store.close()
    assert await read_from_file(path, "sess_new")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_link_to_another_file_is_followed(tmp_path: Path) -> None:
    """As a mounted volume has them; the log stands beside the file itself."""
    first, second, link = tmp_path / "a" / "1.db", tmp_path / "b" / "2.db", tmp_path / "zoo.db"
    for path, session_id in ((first, "sess_1"), (second, "sess_2")):
        await make_backup(path, session_id)
    link.symlink_to(first)
    store = await SqliteStore.open(link, FakeClock())
    try:
        assert await store.get_session("sess_1") is not None
        link.unlink()
        link.symlink_to(second)
        assert await store.get_session("sess_2") is not None
        await store.create_session(make_session("sess_3"))
    finally:
        await store.close()
    assert await read_from_file(second, "sess_3")


async def test_what_stood_in_a_deleted_log_is_saved(store: SqliteStore, path: Path) -> None:
    """Somebody tidies up what looks like a temporary file."""
    await store.create_session(make_session("sess_before"))
    delete(path.with_name("zoo.sqlite3-wal"))

    await store.create_session(make_session("sess_after"))
    await store.close()
    assert await read_from_file(path, "sess_before")
    assert await read_from_file(path, "sess_after")


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\x00" + b"\x00" * 4080])
async def test_a_file_that_is_not_ours_is_not_touched(store: SqliteStore, path: Path, content: bytes) -> None:
    """An empty file, too: it would be an empty zoo. When the right one is there, it is used."""
    await store.create_session(make_session())
    move(path, path.with_name("elsewhere"))
    other = path.with_name("other")
    write(other, content)
    move(other, path)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.ping()
    assert read(path) == content
    delete(path)
    move(path.with_name("elsewhere"), path)
    assert await store.get_session(SESSION_ID) is not None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if mounted is None or mounted.returncode:
        reason = f"no file system may be mounted here: {mounted.stderr if mounted else 'no mount'}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(folder: Path) -> Path:
    """Write until there is no room for one more byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 512)
        except OSError:
            return filler


async def test_a_full_disk_is_noticed_as_a_turn_would(small_disk: Path) -> None:
    """Before, it "could be written to" while every turn was refused. With room again all is well, without a restart."""
    store = await SqliteStore.open(small_disk / "zoo.sqlite3", FakeClock())
    try:
        await store.ping()
        filler = fill_disk(small_disk)
        with pytest.raises(StoreUnavailable):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await store.create_session(make_session("x" * 5000))
        filler.unlink()
        await store.ping()
    finally:
        await store.close()


async def test_a_read_only_disk_is_told_in_a_sentence(small_disk: Path) -> None:
    """As a kernel makes it after an error of the disk."""
    await make_backup(small_disk / "zoo.sqlite3", SESSION_ID)
    make_read_only(small_disk)

    with pytest.raises(StoreUnavailable) as refusal:
        await SqliteStore.open(small_disk / "zoo.sqlite3", FakeClock())
    sentence = explain_failure(small_disk / "zoo.sqlite3", refusal.value.__cause__)
    assert "this user may not write to" in sentence
    assert str(small_disk) in sentence


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))


def make_folder(path: Path) -> None:
    path.mkdir()


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


SPECIAL = [make_pipe, make_socket, make_folder, link_to_device, link_to_pipe]


def remove_special(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize("make_special", SPECIAL)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_what_is_no_file_in_the_place_of_one_is_refused_until_it_is_gone(
    store: SqliteStore, path: Path, suffix: str, make_special: Callable[[Path], None]
) -> None:
    """A read from a pipe would never return. Nothing is lost, and the server goes on without a restart."""
    await store.create_session(make_session())
    place = path.with_name(f"{path.name}{suffix}")
    kept = path.with_name(f"{place.name}.kept")
    move(place, kept)
    make_special(place)

    with capture_logs() as lines:
        async with asyncio.timeout(WAIT_S):
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.get_session(SESSION_ID)
                with pytest.raises(StoreUnavailable):
                    await store.create_session(make_session("sess_other"))
                with pytest.raises(StoreUnavailable):
                    await store.ping()
    assert list_events(lines) == ["store_file_replaced"]
    assert str(place) in str(lines[0]["remedy"])

    remove_special(place)
    move(kept, place)
    async with asyncio.timeout(WAIT_S):
        assert await store.get_session(SESSION_ID) is not None
        await store.create_session(make_session("sess_other"))
        assert await read_from_file(path, "sess_other")


@pytest.mark.parametrize("make_special", SPECIAL)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_no_store_is_opened_over_what_is_no_file(
    path: Path, suffix: str, make_special: Callable[[Path], None]
) -> None:
    """The sentence names it. Once it is gone, the store opens."""
    place = path.with_name(f"{path.name}{suffix}")
    make_special(place)

    async with asyncio.timeout(WAIT_S):
        with pytest.raises(StoreUnavailable) as refused:
            await SqliteStore.open(path, FakeClock())
    sentence = explain_failure(path, refused.value.__cause__)
    assert str(place) in sentence
    assert "not a file" in sentence
    remove_special(place)
    await (await SqliteStore.open(path, FakeClock())).close()


async def test_a_deleted_shared_memory_is_made_anew(store: SqliteStore, path: Path) -> None:
    """Two processes with two of them would damage the database."""
    await store.create_session(make_session())
    delete(path.with_name(f"{path.name}-shm"))

    assert await store.get_session(SESSION_ID) is not None
    await store.create_session(make_session("sess_other"))
    assert await read_from_file(path, SESSION_ID)
    assert await read_from_file(path, "sess_other")
