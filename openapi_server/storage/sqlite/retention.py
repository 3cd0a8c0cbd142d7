"""Steps of the SQLite store that delete what is behind the horizon: sessions that are over, and words that are too old.

Functions on a connection whose transaction belongs to the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from openapi_server.storage.sqlite import credit_rows
from openapi_server.storage.sqlite.turns import remove_session, session_now
from openapi_server.storage.sqlite.visibility import Horizon

# A turn that somebody runs may outlive its session: it goes when it has ended, or when nobody believes its process.
OVER = """
    FROM sessions WHERE (expires_at <= :now OR last_message_at <= :since) AND NOT EXISTS (
        SELECT 1 FROM turns WHERE turns.session_id = sessions.session_id AND ended_at IS NULL AND lease_until > :now
    )
"""
OLD_WORDS = """
    UPDATE sessions SET title = NULL, opening = NULL
    WHERE created_at <= :since AND (opening IS NOT NULL OR title IS NOT NULL)
"""
OLD_DEVICES = """
    DELETE FROM device_users WHERE created_at <= :since
    AND NOT EXISTS (SELECT 1 FROM sessions WHERE session_id = user_id)
"""


def count_over(db: sqlite3.Connection, horizon: Horizon) -> int:
    """`Store.count_expired_sessions`."""
    (count,) = db.execute(f"SELECT count(*) {OVER}", horizon.named).fetchone()
    return int(count)


def remove_over(db: sqlite3.Connection, horizon: Horizon, limit: int) -> int:
    """`Store.purge_expired_sessions`."""
    over = db.execute(f"SELECT session_id {OVER} LIMIT :limit", {**horizon.named, "limit": limit}).fetchall()
    for row in over:
        remove_session(db, row["session_id"], horizon.now)
    return len(over)


def forget_old(db: sqlite3.Connection, horizon: Horizon, limit: int) -> int:
    """`Store.forget_old_turns`."""
    query = "SELECT turn_id, session_id FROM turns WHERE created_at <= ? ORDER BY created_at LIMIT ?"
    old = db.execute(query, (horizon.since, limit)).fetchall()
    for row in old:
        _forget_turn(db, row["turn_id"], row["session_id"], horizon)
    if len(old) < limit:
        db.execute(OLD_WORDS, horizon.named)
        db.execute(OLD_DEVICES, horizon.named)
    return len(old)


def forget_behind(db: sqlite3.Connection, session_ids: Collection[str], horizon: Horizon) -> None:
    """Delete what no reader sees any more of these sessions."""
    for session_id in session_ids:
        if session_now(db, session_id, horizon) is None:
            remove_session(db, session_id, horizon.now)
        old = "SELECT turn_id FROM turns WHERE session_id = ? AND created_at <= ?"
        for row in db.execute(old, (session_id, horizon.since)).fetchall():
            _forget_turn(db, row["turn_id"], session_id, horizon)


def _forget_turn(db: sqlite3.Connection, turn_id: str, session_id: str, horizon: Horizon) -> None:
    """Without a trace in its session, which goes on; what the turn still held is given back."""
    credit_rows.finish(db, turn_id, 0, horizon.now)
    db.execute("DELETE FROM turns WHERE turn_id = ?", (turn_id,))
    db.execute("UPDATE sessions SET turn_count = turn_count - 1 WHERE session_id = ?", (session_id,))
