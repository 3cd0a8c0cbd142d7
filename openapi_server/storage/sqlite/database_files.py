"""The files of a SQLite database: how they are opened, which they are, and why they cannot be opened."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

BUSY_TIMEOUT_S = 5.0


class FileId(NamedTuple):
    """What tells a file from another one that has its name later."""

    device: int
    inode: int


class Files(NamedTuple):
    """The database's files; None for one that is not there. SQLite makes the other two with the first transaction."""

    database: FileId | None
    log: FileId | None
    shared_memory: FileId | None

    @classmethod
    def look_up(cls, paths: Paths) -> Files:
        """Raises `sqlite3.OperationalError` when something else than a file is at one of the paths."""
        return cls(identify(paths.database), identify(paths.log), identify(paths.shared_memory))


class Paths(NamedTuple):
    """Of the database, its write-ahead log, and the index of the log in shared memory."""

    database: Path
    log: Path
    shared_memory: Path

    @classmethod
    def find(cls, path: Path) -> Paths:
        """The other two stand beside the file itself, not beside a link to it."""
        resolved = path.resolve()
        return cls(path, resolved.with_name(f"{resolved.name}-wal"), resolved.with_name(f"{resolved.name}-shm"))


def open_database(path: Path, *, may_create: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode with the settings that every connection needs.

    `synchronous=NORMAL`: in WAL mode a killed process loses nothing, a power cut may lose the last moments.
    `secure_delete`: deleted rows are overwritten, but for a few copies that `retention.vacuum` removes.
    """
    _require_plain_files(path)
    location = f"{path.absolute().as_uri()}?mode={'rwc' if may_create else 'rw'}"
    connection = sqlite3.connect(
        location, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite ignores `timeout` for this statement: of two processes that create a file, one would fail at once."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def explain_failure(path: Path, error: BaseException | None) -> str:
    """Why a database cannot be opened or written to, in a sentence for whoever runs the server, with what to do."""
    reason = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    number = getattr(error, "errno", None)
    if isinstance(error, OSError):
        reason = os.strerror(error.errno or 0)
    match code & 0xFF if code is not None else None:
        case sqlite3.SQLITE_FULL:
            return f"{path}: the disk or the quota is full; make room there, or use another disk"
        case sqlite3.SQLITE_READONLY:
            return f"{path}: is read-only for this user; make the file and its folder writable"
        case sqlite3.SQLITE_BUSY:
            return f"{path}: another program has locked it; `zoochat doctor` names the programs that have it open"
        case sqlite3.SQLITE_NOTADB:
            return f"{path}: is not a database; it was not changed. Name another file"
        case sqlite3.SQLITE_CORRUPT:
            return f"{path}: is damaged; restore a backup, or salvage it with `sqlite3 {path} .recover`"
        case sqlite3.SQLITE_CANTOPEN:
            return f"{path}: cannot be opened; {_explain_path(path)}"
    if number is not None:
        return f"{path}: its folder cannot be made ({reason}); {_explain_path(path)}"
    return f"{path}: {reason}"


def _explain_path(path: Path) -> str:
    """Which part of the path is in the way."""
    for folder in reversed(path.absolute().parents):
        if folder.exists() and not folder.is_dir():
            return f"{folder} is no folder"
        if not folder.exists():
            return f"the folder {folder} does not exist and cannot be made"
    if path.is_dir():
        return "it is a folder"
    if not os.access(path if path.exists() else path.parent, os.R_OK | os.W_OK):
        return f"this user may not write to {path if path.exists() else path.parent}"
    return "the file or its folder is not writable, or no more files can be opened"


def require_our_tables(path: Path) -> None:
    """Look into a file without a change to it. Raises `sqlite3.Error` unless this server has made it."""
    _require_plain_files(path)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)) as db:
        (migrations,) = db.execute("PRAGMA user_version").fetchone()
    if not migrations:
        raise sqlite3.DatabaseError("the file that is there now has none of this server's tables")


def _require_plain_files(path: Path) -> None:
    """Raise `sqlite3.OperationalError` when something else than a file is where SQLite reads or writes."""
    resolved = path.resolve()
    Files.look_up(Paths.find(path))
    identify(resolved.with_name(f"{resolved.name}-journal"))


def identify(path: Path) -> FileId | None:
    """None when nothing is there. Raises `sqlite3.OperationalError` for a pipe, a socket, a device or a folder."""
    try:
        found = os.stat(path)  # noqa: PTH116  # called before each use: a third of the time of `Path.stat`
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise sqlite3.OperationalError(f"{path} is {_name_kind(found.st_mode)}, not a file")
    return FileId(found.st_dev, found.st_ino)


def _name_kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def get_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
