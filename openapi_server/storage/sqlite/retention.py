"""Deletes what is outside of the retention window, and vacuums the database's files.

Rows are deleted by functions on a connection, in the transaction of the caller; `vacuum` runs outside of any.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from openapi_server.storage.retention_window import RetentionWindow
from openapi_server.storage.sqlite.credits import detach_reservation
from openapi_server.storage.sqlite.idempotency import delete_expired_answers
from openapi_server.storage.sqlite.turns import delete_session, select_session

# A session with a running turn stays until the turn has ended or its lease has expired.
EXPIRED_SESSIONS = """
    FROM sessions WHERE (expires_at <= :now OR last_message_at <= :since) AND NOT EXISTS (
        SELECT 1 FROM turns WHERE turns.session_id = sessions.session_id AND ended_at IS NULL AND lease_until > :now
    )
"""
DELETE_OLD_TITLES = """
    UPDATE sessions SET title = NULL, opening = NULL
    WHERE created_at <= :since AND (opening IS NOT NULL OR title IS NOT NULL)
"""
# A device's user has the id of its session: without it, nothing is left of the device.
DELETE_DEVICES_WITHOUT_SESSION = """
    DELETE FROM device_users WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE session_id = user_id)
"""


def count_expired_sessions(db: sqlite3.Connection, window: RetentionWindow) -> int:
    """`Store.count_expired_sessions`."""
    (count,) = db.execute(f"SELECT count(*) {EXPIRED_SESSIONS}", window.parameters).fetchone()
    return int(count)


def delete_expired_sessions(db: sqlite3.Connection, window: RetentionWindow, limit: int) -> int:
    """`Store.delete_expired_sessions`. What was answered to requests with expired keys is deleted, too, and at the end
    the users of devices whose sessions are gone."""
    delete_expired_answers(db, window.now)
    expired = db.execute(
        f"SELECT session_id {EXPIRED_SESSIONS} LIMIT :limit", {**window.parameters, "limit": limit}
    ).fetchall()
    for row in expired:
        delete_session(db, row["session_id"], window.now)
    if len(expired) < limit:
        db.execute(DELETE_DEVICES_WITHOUT_SESSION)
    return len(expired)


def delete_old_turns(db: sqlite3.Connection, window: RetentionWindow, limit: int) -> int:
    """`Store.delete_old_turns`."""
    query = "SELECT turn_id, session_id FROM turns WHERE created_at <= ? ORDER BY created_at LIMIT ?"
    old = db.execute(query, (window.since, limit)).fetchall()
    for row in old:
        _delete_turn(db, row["turn_id"], row["session_id"], window)
    if len(old) < limit:
        db.execute(DELETE_OLD_TITLES, window.parameters)
    return len(old)


def delete_expired_content(db: sqlite3.Connection, session_ids: Collection[str], window: RetentionWindow) -> None:
    """Delete those of the sessions that have expired, and their turns that are too old."""
    for session_id in session_ids:
        if select_session(db, session_id, window) is None:
            delete_session(db, session_id, window.now)
        old = "SELECT turn_id FROM turns WHERE session_id = ? AND created_at <= ?"
        for row in db.execute(old, (session_id, window.since)).fetchall():
            _delete_turn(db, row["turn_id"], session_id, window)


def _delete_turn(db: sqlite3.Connection, turn_id: str, session_id: str, window: RetentionWindow) -> None:
    """Delete the turn, let go of the credits that it holds, and let its session no longer count it."""
    detach_reservation(db, turn_id, window.now)
    db.execute("DELETE FROM turns WHERE turn_id = ?", (turn_id,))
    db.execute("UPDATE sessions SET turn_count = turn_count - 1 WHERE session_id = ?", (session_id,))


def vacuum(db: sqlite3.Connection, *, at_most_bytes: int | None, is_forced: bool) -> bool:
    """`Store.vacuum`: leave no copy of deleted rows in the files. False when a reader, or the size, prevented it.

    `secure_delete` overwrites a deleted row, but not the copies that SQLite leaves behind when it splits a page: of 900
    messages deleted from 3,000, about ten could still be read in the file. `VACUUM` writes the file anew from the rows
    that are left. The write-ahead log has copies of its own until it is checkpointed and truncated.

    Measured: 0.6 s for 86 MB, during which nobody can write. Unless `is_forced`, `VACUUM` is skipped when the log is
    empty: then nothing was written since the last time.
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
