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
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import structlog

from openapi_server.models.errors import StoreUnavailable
from openapi_server.storage.sqlite.database_files import (
    BUSY_TIMEOUT_S,
    Files,
    Paths,
    get_size,
    identify,
    open_database,
    require_our_tables,
)
from openapi_server.storage.sqlite.shared_writes import SharedWrites

T = TypeVar("T")
READERS = 2
RETRY_AFTER_S = 2

log = structlog.get_logger(__name__)


class Connections:
    """Runs functions that take a connection: `write` in a transaction that is rolled back on any error, `read` without.

    `write_together` is for what hundreds do at the same moment: see `SharedWrites`.

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
        self._shared_writes = SharedWrites(self._transact_shared, self._submit_shared, _report_failure)
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
        return max(0, self._submitted[self._writer] - 1) + len(self._shared_writes)

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
        return await self._shared_writes.write(work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run_in(self._readers, self._query, work)

    def read_at_once(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """The result of a read that takes microseconds; None where it would have to wait or fails: then use `read`."""
        if not self._idle.acquire(blocking=False):
            return None
        try:
            # Only the database itself: a turn writes soon after, and then all of its files are compared.
            if self._inline is None or self._is_missing or identify(self._path) != self._files.database:
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
        self._shared_writes.submit_waiting()
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
        self._count_until_done(done, threads)
        return await done

    def _count_until_done(self, done: asyncio.Future[T], threads: ThreadPoolExecutor) -> None:
        # Not in a `finally` of the caller: the work of one that is cancelled goes on.
        def count_done(_: asyncio.Future[T]) -> None:
            self._submitted[threads] -= 1

        self._submitted[threads] += 1
        done.add_done_callback(count_done)

    def _submit_shared(self, work: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        loop = asyncio.get_running_loop()
        self._count_until_done(loop.run_in_executor(self._writer, work, loop), self._writer)

    def _transact_shared(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._run(self._transact, work)

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
            if found.log == self._files.log and get_size(self._paths.log):
                raise sqlite3.OperationalError("another process still uses the file that was replaced")
            # The old connections stay: it may come back.
            require_our_tables(self._path)
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
            log_id, shared_memory_id = identify(self._paths.log), identify(self._paths.shared_memory)
            self._files = self._files._replace(log=log_id, shared_memory=shared_memory_id)

    def _close_connections(self) -> None:
        self._inline = None
        for connection in self._opened:
            connection.close()
        self._opened.clear()


def _report_failure(error: sqlite3.Error) -> StoreUnavailable:
    """Log it, and what callers are told. The driver's message goes to the log only: it may name files."""
    log.error("store_failed", error=type(error).__name__, reason=str(error))
    return StoreUnavailable(retry_after_s=RETRY_AFTER_S)
