"""SQLite connections off the event loop: one thread writes and two read, each with a connection of its own.

There is one writer because SQLite has one write lock. Within the process a queue is fairer than waiting for the lock;
other processes are waited for with `busy_timeout`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from openapi_server.models.errors import StoreUnavailable

T = TypeVar("T")
BUSY_TIMEOUT_S = 5.0
READERS = 2

log = structlog.get_logger(__name__)


class Connections:
    """Runs functions that take a connection: `write` in a transaction that is rolled back on any error, `read` without.

    Errors of SQLite are logged and become `StoreUnavailable`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._submitted = {self._writer: 0, self._readers: 0}

    @property
    def waiting_writes(self) -> int:
        """How many writes wait for the thread that writes."""
        return max(0, self._submitted[self._writer] - 1)

    @property
    def waiting_reads(self) -> int:
        """How many reads wait for one of the threads that read."""
        return max(0, self._submitted[self._readers] - READERS)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run_in(self._writer, self._transact, work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run_in(self._readers, self._query, work)

    async def run_exclusive(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run what cannot run in a transaction, while nobody else in this process writes."""
        return await self._run_in(self._writer, self._query, work)

    async def close(self) -> None:
        """Let running work finish, then close every connection. SQLite checkpoints the WAL when the last one closes."""
        await asyncio.to_thread(self._close_all)

    def _close_all(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()

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
            # The driver's message goes to the log only: it may name files.
            log.error("store_failed", error=type(error).__name__, reason=str(error))
            raise StoreUnavailable(retry_after_s=2) from error

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self._connection())

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = open_database(self._path)
            self._opened.append(self._local.connection)
        connection: sqlite3.Connection = self._local.connection
        return connection


def open_database(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode with the settings that every connection needs.

    `synchronous=NORMAL`: in WAL mode a killed process loses nothing, a power cut may lose the last moments.
    `secure_delete`: deleted rows are overwritten, but for a few copies that `retention.vacuum` removes.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
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
