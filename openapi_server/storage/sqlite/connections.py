"""SQLite connections off the event loop: one thread writes and two read, each with a connection of its own.

A read that takes microseconds has a connection on the event loop (`read_at_once`): a thread and back take longer.

There is one writer because SQLite has one write lock. Within the process a queue is fairer than waiting for the lock;
other processes are waited for with `busy_timeout`.

SQLite goes on with a file that was deleted or replaced under it, and all that is written then is lost at the end. So
every use compares the files at the path with those that are open:

    at the path                          what happens
    the files that are open              they are used
    no database                          `StoreUnavailable`, until it is back or the server is started anew
    a pipe, socket, device or folder     `StoreUnavailable`, until it is gone: a read from a pipe would never return
    the database, another log or none    the connections are opened anew; SQLite copies the log into the database first
    another database                     the connections are opened anew, if this server's tables are in it
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import structlog

from openapi_server.models.errors import StoreUnavailable

T = TypeVar("T")
BUSY_TIMEOUT_S = 5.0
READERS = 2
# How many writes share a transaction. Each is answered when all of them are stored.
MAX_WRITES_TOGETHER = 32
RETRY_AFTER_S = 2

log = structlog.get_logger(__name__)


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
        return cls(_identify(paths.database), _identify(paths.log), _identify(paths.shared_memory))


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


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """A write that waits for the next transaction, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]

    def finish(self, outcome: _Outcome) -> None:
        """The work of a caller that was cancelled has been done, too."""
        if not self.done.done():
            if outcome.error is None:
                self.done.set_result(outcome.result)
            else:
                self.done.set_exception(outcome.error)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a write: its result, or what it raised."""

    result: Any = None
    error: Exception | None = None


class Connections:
    """Runs functions that take a connection: `write` in a transaction that is rolled back on any error, `read` without.

    `write_together` is for what hundreds do at the same moment: what waits shares a transaction, and each of the writes
    is rolled back by itself. Its function may run a second time, after all that it did was rolled back.

    Errors of SQLite are logged and become `StoreUnavailable`. `prepare` is run on the first connection to each file: it
    makes the tables that are missing.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._paths = Paths.find(path)
        self._prepare = prepare
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._submitted = {self._writer: 0, self._readers: 0}
        self._together: deque[_Write] = deque()
        self._is_together_due = False
        self._is_closed = False
        # Guards what follows. Connections are only opened anew while no thread uses one.
        self._idle = threading.Condition()
        self._users = 0
        self._generation = 0
        self._files = Files(None, None, None)
        self._is_missing = False
        # The connection of the event loop. It is used with the lock held, for it is closed with the others.
        self._inline: sqlite3.Connection | None = None

    @property
    def waiting_writes(self) -> int:
        """How many writes wait for the thread that writes."""
        return max(0, self._submitted[self._writer] - 1) + len(self._together)

    @property
    def waiting_reads(self) -> int:
        """How many reads wait for one of the threads that read."""
        return max(0, self._submitted[self._readers] - READERS)

    async def open(self) -> None:
        """Create the file if it is missing, and prepare it."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._run, self._open_first, self._prepare)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run_in(self._writer, self._transact, work)

    async def write_together(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `write`, in one transaction with others that come at the same moment or wait already."""
        if self._is_closed:
            raise RuntimeError("the connections are closed")
        loop = asyncio.get_running_loop()
        write = _Write(work, loop.create_future())
        self._together.append(write)
        if not self._is_together_due:
            # At the end of this round of the event loop, in which others may come.
            self._is_together_due = True
            loop.call_soon(self._submit_together)
        result: T = await write.done
        return result

    def _submit_together(self) -> None:
        if not self._is_together_due:
            # `close` has not waited for the end of the round.
            return
        self._is_together_due = False
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._writer, self._write_waiting, loop)
        self._submitted[self._writer] += 1
        done.add_done_callback(lambda _: self._count_done(self._writer))

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that waits, also what has come since this was submitted."""
        while self._together:
            writes = [self._together.popleft() for _ in range(min(len(self._together), MAX_WRITES_TOGETHER))]
            outcomes = self._write_all(writes)
            # A loop that is closed waits for nothing any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish_all, writes, outcomes)

    def _write_all(self, writes: Sequence[_Write]) -> list[_Outcome]:
        if len(writes) == 1:
            return [self._write_alone(writes[0])]
        has_begun = False

        def write_each(db: sqlite3.Connection) -> list[_Outcome]:
            nonlocal has_begun
            has_begun = True
            return [_write_one(db, write.work) for write in writes]

        try:
            return self._run(self._transact, write_each)
        except Exception as error:
            if not has_begun:
                # Each of them would wait as long, and fail in the same way.
                return [_Outcome(error=error) for _ in writes]
        # All was rolled back. What one of them made impossible, the others may do.
        return [self._write_alone(write) for write in writes]

    def _write_alone(self, write: _Write) -> _Outcome:
        try:
            return _Outcome(self._run(self._transact, write.work))
        except Exception as error:
            return _Outcome(error=error)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run_in(self._readers, self._query, work)

    def read_at_once(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """The result of a read that takes microseconds; None where it would have to wait or fails: then use `read`."""
        if not self._idle.acquire(blocking=False):
            return None
        try:
            # Only the database itself: a turn writes soon after, and then all of its files are compared.
            if self._inline is None or self._is_missing or _identify(self._path) != self._files.database:
                return None
            return work(self._inline)
        except sqlite3.Error:
            # `read` waits for a lock, and logs what else is wrong.
            return None
        finally:
            self._idle.release()

    async def run_exclusive(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run what cannot run in a transaction, while nobody else in this process writes."""
        return await self._run_in(self._writer, self._query, work)

    async def close(self) -> None:
        """Let running work finish, then close every connection. SQLite checkpoints the WAL when the last one closes."""
        self._is_closed = True
        self._submit_together()
        await asyncio.to_thread(self._close_all)

    def _close_all(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        with self._idle:
            self._close_connections()

    async def _run_in(
        self,
        threads: ThreadPoolExecutor,
        how: Callable[[Callable[[sqlite3.Connection], T]], T],
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        done = asyncio.get_running_loop().run_in_executor(threads, self._run, how, work)
        self._submitted[threads] += 1
        # Not in a `finally` here: the work of a caller that is cancelled goes on.
        done.add_done_callback(lambda _: self._count_done(threads))
        return await done

    def _count_done(self, threads: ThreadPoolExecutor) -> None:
        self._submitted[threads] -= 1

    def _run(self, how: Callable[[Callable[[sqlite3.Connection], T]], T], work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return how(work)
        except sqlite3.Error as error:
            raise _report_failure(error) from error

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._use_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._note_log()
            return result

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._use_connection() as connection:
            return work(connection)

    @contextmanager
    def _use_connection(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection to the files that are at the path now. Raises `StoreUnavailable`."""
        with self._idle:
            self._check_files()
            self._users += 1
        try:
            yield self._get_connection()
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def _get_connection(self) -> sqlite3.Connection:
        if getattr(self._local, "generation", None) != self._generation:
            self._keep_connection(open_database(self._path))
        current: sqlite3.Connection = self._local.connection
        return current

    def _keep_connection(self, connection: sqlite3.Connection) -> None:
        self._opened.append(connection)
        self._local.connection, self._local.generation = connection, self._generation

    def _open_first(self, prepare: Callable[[sqlite3.Connection], T]) -> T:
        """The first use: nothing is open yet, so there is nothing to compare."""
        connection = open_database(self._path, may_create=True)
        self._keep_connection(connection)
        self._paths = Paths.find(self._path)
        prepared = prepare(connection)
        self._files = Files.look_up(self._paths)
        self._open_inline()
        return prepared

    def _open_inline(self) -> None:
        self._inline = open_database(self._path)
        self._opened.append(self._inline)
        self._inline.execute("PRAGMA busy_timeout = 0")

    def _check_files(self) -> None:
        """Open the connections anew if other files are at the path. Raises `StoreUnavailable` if none is."""
        try:
            found = Files.look_up(self._paths)
        except sqlite3.OperationalError as error:
            self._refuse("store_file_replaced", f"remove it, and put the file back ({error})")
        if found.database is None:
            self._refuse(
                "store_file_missing", "put the file back, or start the server anew to begin with an empty store"
            )
        if self._are_other(found):
            self._reopen()
        elif self._is_missing:
            log.warning("store_file_back", path=str(self._path))
        self._is_missing = False

    def _refuse(self, event: str, remedy: str) -> NoReturn:
        """Raise `StoreUnavailable`, and log why unless that was done."""
        if not self._is_missing:
            log.error(event, path=str(self._path), remedy=remedy)
        self._is_missing = True
        raise StoreUnavailable(retry_after_s=RETRY_AFTER_S)

    def _are_other(self, found: Files) -> bool:
        is_other_log = self._files.log is not None and found.log != self._files.log
        is_other_memory = self._files.shared_memory is not None and found.shared_memory != self._files.shared_memory
        return found.database != self._files.database or is_other_log or is_other_memory

    def _reopen(self) -> None:
        """Called with the lock held. Raises `StoreUnavailable` while the other file cannot be used."""
        if not self._idle.wait_for(lambda: not self._users, timeout=BUSY_TIMEOUT_S):
            raise StoreUnavailable(retry_after_s=RETRY_AFTER_S)
        found = Files.look_up(self._paths)
        if not self._are_other(found):
            # Another thread has done it meanwhile.
            return
        is_other = found.database != self._files.database
        if is_other and self._opened:
            # The log at the path belongs to the file that was there before. SQLite would play it into the new one.
            with suppress(sqlite3.Error):
                self._opened[0].execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if found.log == self._files.log and _get_size(self._paths.log):
                raise sqlite3.OperationalError("another process still uses the file that was replaced")
            # The old connections stay: it may come back.
            _require_our_tables(self._path)
        self._close_connections()
        self._generation += 1
        connection = open_database(self._path)
        try:
            self._prepare(connection)
            self._paths = Paths.find(self._path)
            self._files = Files.look_up(self._paths)
            self._open_inline()
        finally:
            self._opened.append(connection)
        remedy = "start the server anew to load the animals and rules of that file" if is_other else None
        log.warning("store_reopened", path=str(self._path), is_other_file=is_other, remedy=remedy)

    def _note_log(self) -> None:
        """SQLite made its log with the transaction that has just ended."""
        if self._files.log is None:
            log_id, shared_memory_id = _identify(self._paths.log), _identify(self._paths.shared_memory)
            self._files = self._files._replace(log=log_id, shared_memory=shared_memory_id)

    def _close_connections(self) -> None:
        self._inline = None
        for connection in self._opened:
            connection.close()
        self._opened.clear()


def _finish_all(writes: Sequence[_Write], outcomes: Sequence[_Outcome]) -> None:
    for write, outcome in zip(writes, outcomes, strict=True):
        write.finish(outcome)


def _write_one(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> _Outcome:
    """One write of a transaction with several. What it raises rolls back this one alone.

    But for what makes SQLite roll back the whole transaction, such as a full disk: that is raised.
    """
    db.execute("SAVEPOINT write_one")
    try:
        outcome = _Outcome(work(db))
    except Exception as error:
        if not db.in_transaction:
            raise
        db.execute("ROLLBACK TO write_one")
        outcome = _Outcome(error=_report_failure(error) if isinstance(error, sqlite3.Error) else error)
    db.execute("RELEASE write_one")
    return outcome


def _report_failure(error: sqlite3.Error) -> StoreUnavailable:
    """Log it, and what callers are told. The driver's message goes to the log only: it may name files."""
    log.error("store_failed", error=type(error).__name__, reason=str(error))
    return StoreUnavailable(retry_after_s=RETRY_AFTER_S)


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


def _require_our_tables(path: Path) -> None:
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
    _identify(resolved.with_name(f"{resolved.name}-journal"))


def _identify(path: Path) -> FileId | None:
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


def _get_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
