"""Writes that share a transaction: what hundreds do at the same moment costs one of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
# How many writes share a transaction. Each is answered when all of them are stored.
MAX_SHARING = 32


class SharedWrites:
    """Collects the writes of one round of the event loop, and runs them in the thread that writes.

    Each write is a function that takes a connection. It is rolled back by itself if it raises, and may run a second
    time, after all that it did was rolled back.
    `transact` runs a function in a transaction of its own, in the thread that writes. `submit` runs a function in that
    thread, with the running event loop as its argument. `explain_error` makes of an error of SQLite what callers get.
    """

    def __init__(
        self,
        transact: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        submit: Callable[[Callable[[asyncio.AbstractEventLoop], None]], object],
        explain_error: Callable[[sqlite3.Error], Exception],
    ) -> None:
        self._transact = transact
        self._submit = submit
        self._explain_error = explain_error
        self._waiting: deque[_Write] = deque()
        self._is_due = False

    def __len__(self) -> int:
        """How many writes wait to be run."""
        return len(self._waiting)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of the work, once it is stored."""
        loop = asyncio.get_running_loop()
        write = _Write(work, loop.create_future())
        self._waiting.append(write)
        if not self._is_due:
            # At the end of this round of the event loop, in which others may come.
            self._is_due = True
            loop.call_soon(self.submit_waiting)
        result: T = await write.done
        return result

    def submit_waiting(self) -> None:
        """Do not wait for the end of the round any longer."""
        if self._is_due:
            self._is_due = False
            self._submit(self._write_waiting)

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that waits, also what has come since this was submitted."""
        while self._waiting:
            writes = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_SHARING))]
            results = self._write_all(writes)
            # A loop that is closed waits for nothing any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish_all, writes, results)

    def _write_all(self, writes: Sequence[_Write]) -> list[_WriteResult]:
        if len(writes) == 1:
            return [self._write_alone(writes[0])]
        has_begun = False

        def write_each(db: sqlite3.Connection) -> list[_WriteResult]:
            nonlocal has_begun
            has_begun = True
            return [self._write_one(db, write.work) for write in writes]

        try:
            results: list[_WriteResult] = self._transact(write_each)
            return results
        except Exception as error:
            if not has_begun:
                # Each of them would wait as long, and fail in the same way.
                return [_WriteResult(error=error) for _ in writes]
        # All was rolled back. What one of them made impossible, the others may do.
        return [self._write_alone(write) for write in writes]

    def _write_alone(self, write: _Write) -> _WriteResult:
        try:
            return _WriteResult(self._transact(write.work))
        except Exception as error:
            return _WriteResult(error=error)

    def _write_one(self, db: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> _WriteResult:
        """One write of a transaction with several. What it raises rolls back this one alone.

        But for what makes SQLite roll back the whole transaction, such as a full disk: that is raised.
        """
        db.execute("SAVEPOINT write_one")
        try:
            result = _WriteResult(work(db))
        except Exception as error:
            if not db.in_transaction:
                raise
            db.execute("ROLLBACK TO write_one")
            result = _WriteResult(error=self._explain_error(error) if isinstance(error, sqlite3.Error) else error)
        db.execute("RELEASE write_one")
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """A write that waits for the next transaction, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]

    def finish(self, result: _WriteResult) -> None:
        """The work of a caller that was cancelled has been done, too."""
        if not self.done.done():
            if result.error is None:
                self.done.set_result(result.value)
            else:
                self.done.set_exception(result.error)


@dataclass(frozen=True, slots=True)
class _WriteResult:
    """What came of a write: its result, or what it raised."""

    value: Any = None
    error: Exception | None = None


def _finish_all(writes: Sequence[_Write], results: Sequence[_WriteResult]) -> None:
    for write, result in zip(writes, results, strict=True):
        write.finish(result)
