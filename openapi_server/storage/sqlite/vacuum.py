"""Tidying: no copy of what was deleted stays in the database's files.

`secure_delete` overwrites a row where it lay, but not the copies that SQLite left behind when it split a page: of 900
messages that were deleted from 3,000, about ten could still be read in the file. `VACUUM` writes it anew from what is
kept. The write-ahead log has its own copies, until it is folded in and cut off.
"""

from __future__ import annotations

import sqlite3


def vacuum(db: sqlite3.Connection, *, at_most_bytes: int | None, is_forced: bool) -> bool:
    """`Store.tidy`. Measured: 0.6 s for 86 MB, in which nobody can write.

    Nothing is copied when nothing was written since the last time, as the empty log tells, unless `is_forced`.
    """
    is_small = at_most_bytes is None or _count_bytes(db) <= at_most_bytes
    if is_small and (is_forced or _count_log_pages(db)):
        db.execute("VACUUM")
    was_busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return is_small and not was_busy


def _count_bytes(db: sqlite3.Connection) -> int:
    (pages,), (size,) = db.execute("PRAGMA page_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def _count_log_pages(db: sqlite3.Connection) -> int:
    _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(pages)
