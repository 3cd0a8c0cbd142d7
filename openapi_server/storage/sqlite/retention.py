"""Steps of the SQLite store that delete what is behind the horizon: sessions that are over, and words that are too old.

Functions on a connection whose transaction belongs to the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from openapi_server.storage.sqlite import credit_rows
from openapi_server.storage.sqlite.turns import delete_session, select_session
from openapi_server.storage.sqlite.visibility import RetentionWindow

# A turn that somebody runs may outlive its session: it goes when it has ended, or when nobody believes its process.
EXPIRED_SESSIONS = """
    FROM sessions WHERE (expires_at <= :now OR last_message_at <= :since) AND NOT EXISTS (
        SELECT 1 FROM turns WHERE turns.session_id = sessions.session_id AND ended_at IS NULL AND lease_until > :now
    )
"""
DELETE_OLD_TITLES = """
    UPDATE sessions SET title = NULL, opening = NULL
    WHERE created_at <= :since AND (opening IS NOT NULL OR title IS NOT NULL)
"""
DELETE_OLD_DEVICES = """
    DELETE FROM device_users WHERE created_at <= :since
    AND NOT EXISTS (SELECT 1 FROM sessions WHERE session_id = user_id)
"""


def count_expired_sessions(db: sqlite3.Connection, horizon: RetentionWindow) -> int:
    """`Store.count_expired_sessions`."""
    (count,) = db.execute(f"SELECT count(*) {EXPIRED_SESSIONS}", horizon.parameters).fetchone()
    return int(count)


def delete_expired_sessions(db: sqlite3.Connection, horizon: RetentionWindow, limit: int) -> int:
    """`Store.purge_expired_sessions`."""
    over = db.execute(
        f"SELECT session_id {EXPIRED_SESSIONS} LIMIT :limit", {**horizon.parameters, "limit": limit}
    ).fetchall()
    for row in over:
        delete_session(db, row["session_id"], horizon.now)
    return len(over)


def delete_old_turns(db: sqlite3.Connection, horizon: RetentionWindow, limit: int) -> int:
    """`Store.forget_old_turns`."""
    query = "SELECT turn_id, session_id FROM turns WHERE created_at <= ? ORDER BY created_at LIMIT ?"
    old = db.execute(query, (horizon.since, limit)).fetchall()
    for row in old:
        _delete_turn(db, row["turn_id"], row["session_id"], horizon)
    if len(old) < limit:
        db.execute(DELETE_OLD_TITLES, horizon.parameters)
        db.execute(DELETE_OLD_DEVICES, horizon.parameters)
    return len(old)


def delete_expired_content(db: sqlite3.Connection, session_ids: Collection[str], horizon: RetentionWindow) -> None:
    """Delete what no reader sees any more of these sessions."""
    for session_id in session_ids:
        if select_session(db, session_id, horizon) is None:
            delete_session(db, session_id, horizon.now)
        old = "SELECT turn_id FROM turns WHERE session_id = ? AND created_at <= ?"
        for row in db.execute(old, (session_id, horizon.since)).fetchall():
            _delete_turn(db, row["turn_id"], session_id, horizon)


def _delete_turn(db: sqlite3.Connection, turn_id: str, session_id: str, horizon: RetentionWindow) -> None:
    """Without a trace in its session, which goes on; what the turn still held is given back."""
    credit_rows.settle_reservation(db, turn_id, 0, horizon.now)
    db.execute("DELETE FROM turns WHERE turn_id = ?", (turn_id,))
    db.execute("UPDATE sessions SET turn_count = turn_count - 1 WHERE session_id = ?", (session_id,))
