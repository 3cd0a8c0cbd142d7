"""Steps of the SQLite store that are more than one statement: how turns begin and end, and how sessions are removed.

Functions on a connection whose transaction belongs to the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace

from openapi_server.models.credits import Charge
from openapi_server.models.errors import KeyReused, SessionNotFound, TurnRunning
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import IdempotencyKey, Outcome, TurnRecord
from openapi_server.storage.sqlite import credit_rows
from openapi_server.storage.sqlite.rows import (
    decode_session,
    encode_message,
    encode_outcome,
    encode_session,
    encode_time,
    encode_turn,
)
from openapi_server.storage.sqlite.visibility import RetentionWindow

# A key is as good as the turn that it stands for.
SELECT_KEY = """
    SELECT body_hash, idempotency_keys.turn_id FROM idempotency_keys
    JOIN turns ON turns.turn_id = idempotency_keys.turn_id
    JOIN sessions ON sessions.session_id = turns.session_id
    WHERE key = :key AND sessions.expires_at > :now AND turns.created_at > :since
"""


def begin_turn(
    db: sqlite3.Connection,
    turn: TurnRecord,
    new_session: SessionRecord | None,
    keys: Sequence[IdempotencyKey],
    charge: Charge | None,
    horizon: RetentionWindow,
) -> str:
    """`Store.begin_turn`. The horizon is the turn's own."""
    seen = _find_earlier_turn(db, keys, horizon)
    if seen is not None:
        _store_keys(db, keys, seen)
        return seen
    if new_session is not None:
        _create_session(db, new_session, horizon)
    position = _take_position(db, turn, horizon)
    if charge is not None:
        credit_rows.reserve_credits(db, charge, turn.turn_id, horizon.now)
    insert_row(db, "turns", encode_turn(turn, position))
    insert_row(db, "messages", encode_message(turn.turn_id, "incoming", turn.message, turn.created_at, turn.media_urls))
    _store_keys(db, keys, turn.turn_id)
    return turn.turn_id


def settle_turn(db: sqlite3.Connection, turn_id: str, outcome: Outcome) -> bool:
    """`Store.settle_turn`."""
    now = encode_time(outcome.ended_at)
    query = "UPDATE turns SET ended_at = ?, outcome = ? WHERE turn_id = ? AND ended_at IS NULL"
    if not db.execute(query, (now, encode_outcome(outcome), turn_id)).rowcount:
        return False
    if outcome.reply is not None:
        insert_row(db, "messages", encode_message(turn_id, "outgoing", outcome.reply, outcome.ended_at))
    credit_rows.settle_reservation(db, turn_id, outcome.credits_used, now)
    return True


def delete_session(db: sqlite3.Connection, session_id: str, now: str) -> Sequence[str]:
    """Delete it with all its turns, and give back what those held that still ran; the turns' ids."""
    turn_ids = [row[0] for row in db.execute("SELECT turn_id FROM turns WHERE session_id = ?", (session_id,))]
    for turn_id in turn_ids:
        credit_rows.settle_reservation(db, turn_id, 0, now)
    db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
    return turn_ids


def select_session(db: sqlite3.Connection, session_id: str, horizon: RetentionWindow) -> SessionRecord | None:
    """The session, unless it is over, or all that was said in it is too old."""
    query = "SELECT * FROM sessions WHERE session_id = ? AND expires_at > ? AND last_message_at > ?"
    row = db.execute(query, (session_id, horizon.now, horizon.since)).fetchone()
    return decode_session(row, horizon.since) if row else None


def set_session_ttl(
    db: sqlite3.Connection, session_id: str, ttl_s: int, horizon: RetentionWindow
) -> SessionRecord | None:
    """`Store.set_session_ttl`."""
    session = select_session(db, session_id, horizon)
    if session is None:
        return None
    changed = replace(session, ttl_s=ttl_s)
    _update_session(db, changed)
    return changed


def insert_row(db: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """Table and column names are ours; only values come from outside."""
    columns, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", row)  # noqa: S608


def _create_session(db: sqlite3.Connection, session: SessionRecord, horizon: RetentionWindow) -> None:
    """Unless it is there already: somebody was quicker. One of the same name that is over makes room for it."""
    if select_session(db, session.session_id, horizon) is not None:
        return
    delete_session(db, session.session_id, horizon.now)
    insert_row(db, "sessions", encode_session(session))
    if session.handle is not None:
        query = "INSERT OR IGNORE INTO device_users (user_id, handle, created_at) VALUES (?, ?, ?)"
        db.execute(query, (session.session_id, session.handle, horizon.now))


def _find_earlier_turn(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], horizon: RetentionWindow) -> str | None:
    """The turn that one of the keys stands for already. A key whose time is over makes room for its next use."""
    for key in keys:
        db.execute("DELETE FROM idempotency_keys WHERE key = ? AND expires_at <= ?", (key.key, horizon.now))
        row = db.execute(SELECT_KEY, {"key": key.key, **horizon.parameters}).fetchone()
        if row is not None and row["body_hash"] != key.body_hash:
            raise KeyReused("Use a new Idempotency-Key for every new request.")
        if row is not None:
            return str(row["turn_id"])
    return None


def _store_keys(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], turn_id: str) -> None:
    """From now on every one of the keys stands for the turn, whichever of them it was found by."""
    for key in keys:
        db.execute("DELETE FROM idempotency_keys WHERE key = ?", (key.key,))
        row = {
            "key": key.key,
            "body_hash": key.body_hash,
            "turn_id": turn_id,
            "expires_at": encode_time(key.expires_at),
        }
        insert_row(db, "idempotency_keys", row)


def _take_position(db: sqlite3.Connection, turn: TurnRecord, horizon: RetentionWindow) -> int:
    """The turn's place in its session, which lives on from now; refused when it is not there or busy."""
    session = select_session(db, turn.session_id, horizon)
    if session is None:
        raise SessionNotFound
    query = "SELECT turn_id FROM turns WHERE session_id = ? AND ended_at IS NULL"
    running = db.execute(query, (turn.session_id,)).fetchone()
    if running is not None:
        raise TurnRunning("Wait for the running turn to end, or read along with it.", turn_id=running["turn_id"])
    continued = replace(session, last_message_at=turn.created_at, turn_count=session.turn_count + 1)
    if session.animal_id != turn.animal_id:
        continued = replace(continued, animal_id=turn.animal_id, locked_at=turn.created_at)
    _update_session(db, continued)
    # Not the count: earlier turns may be forgotten, and places are never given twice.
    (last,) = db.execute("SELECT max(position) FROM turns WHERE session_id = ?", (turn.session_id,)).fetchone()
    return (last or 0) + 1


def _update_session(db: sqlite3.Connection, session: SessionRecord) -> None:
    db.execute(
        """
        UPDATE sessions SET last_message_at = :last_message_at, expires_at = :expires_at, turn_count = :turn_count,
        animal_id = :animal_id, locked_at = :locked_at, ttl_s = :ttl_s WHERE session_id = :session_id
        """,
        encode_session(session),
    )
