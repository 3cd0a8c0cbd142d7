"""The steps of `SqliteStore` that take more than one statement: a turn starts or ends, a session is deleted.

They are functions on a connection; the caller has opened the transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from openapi_server.models.credits import Charge, Cost
from openapi_server.models.errors import KeyReused, SessionClaimed, SessionNotFound, TurnNotFound, TurnRunning
from openapi_server.models.session import SessionClaim, SessionRecord
from openapi_server.models.turn import IdempotencyKey, Outcome, TurnRecord, TurnStatus
from openapi_server.storage.retention_window import RetentionWindow, encode_time
from openapi_server.storage.sqlite.credits import detach_reservation, reserve_credits, settle_reservation
from openapi_server.storage.sqlite.rows import (
    decode_session,
    encode_message,
    encode_outcome,
    encode_session,
    encode_turn,
    insert_row,
)

# A key is valid only as long as its turn is visible.
SELECT_KEY = """
    SELECT body_hash, idempotency_keys.turn_id FROM idempotency_keys
    JOIN turns ON turns.turn_id = idempotency_keys.turn_id
    JOIN sessions ON sessions.session_id = turns.session_id
    WHERE key = :key AND sessions.expires_at > :now AND turns.created_at > :since
"""

DELETE_ANSWERS = "DELETE FROM answers WHERE subject = ?"


def begin_turn(
    db: sqlite3.Connection,
    turn: TurnRecord,
    new_session: SessionRecord | None,
    keys: Sequence[IdempotencyKey],
    charge: Charge | None,
    claim: SessionClaim | None,
    max_queued: int,
    window: RetentionWindow,
) -> str:
    """`Store.begin_turn`. The window is the one at the time of the turn."""
    earlier = _find_earlier_turn(db, keys, window)
    if earlier is not None:
        _store_keys(db, keys, earlier)
        return earlier
    if new_session is not None and _begin_session(db, turn, new_session, claim, window):
        if turn.is_queued:
            _require_room(db, turn, max_queued)
        position = 1
    else:
        position = _take_position(db, turn, claim, max_queued, window)
    if charge is not None and not turn.is_queued:
        reserve_credits(db, charge, turn.turn_id, window.now)
    insert_row(db, "turns", encode_turn(turn, position))
    insert_row(db, "messages", encode_message(turn.turn_id, "incoming", turn.message, turn.created_at, turn.media_urls))
    _store_keys(db, keys, turn.turn_id)
    return turn.turn_id


def start_queued_turn(db: sqlite3.Connection, turn_id: str, charge: Charge | None, now: str) -> str | None:
    """`Store.start_queued_turn`."""
    query = "SELECT session_id, position FROM turns WHERE turn_id = ? AND ended_at IS NULL AND is_queued"
    turn = db.execute(query, (turn_id,)).fetchone()
    if turn is None:
        raise TurnNotFound
    query = """
        SELECT turn_id FROM turns WHERE session_id = ? AND ended_at IS NULL AND position < ? ORDER BY position LIMIT 1
    """
    ahead = db.execute(query, (turn["session_id"], turn["position"])).fetchone()
    if ahead is not None:
        return str(ahead["turn_id"])
    if charge is not None:
        reserve_credits(db, charge, turn_id, now)
    db.execute("UPDATE turns SET is_queued = 0, started_at = ? WHERE turn_id = ?", (now, turn_id))
    return None


def settle_turn(db: sqlite3.Connection, turn_id: str, outcome: Outcome) -> Outcome | None:
    """`Store.settle_turn`."""
    now = encode_time(outcome.ended_at)
    # A turn that has ended has no reservation any more, and one that was deleted while it ran still has its own.
    charged = settle_reservation(db, turn_id, Cost(max(outcome.credits_used, 0), outcome.tokens_charged), now)
    settled = replace(outcome, credits_used=charged.credits, tokens_charged=charged.tokens)
    query = "UPDATE turns SET ended_at = ?, outcome = ? WHERE turn_id = ? AND ended_at IS NULL"
    if not db.execute(query, (now, encode_outcome(settled), turn_id)).rowcount:
        return None
    if settled.status is TurnStatus.FAILED:
        # A turn that never ran has answered nothing: the same request, sent again, is asked anew.
        query = """
            DELETE FROM idempotency_keys WHERE turn_id IN (SELECT turn_id FROM turns WHERE turn_id = ? AND is_queued)
        """
        db.execute(query, (turn_id,))
    if settled.reply is not None:
        insert_row(db, "messages", encode_message(turn_id, "outgoing", settled.reply, settled.ended_at))
    return settled


def delete_session(db: sqlite3.Connection, session_id: str, now: str) -> Sequence[str]:
    """Delete the session with its turns, and let go of what they have reserved. Returns the ids of the turns."""
    turn_ids = [row[0] for row in db.execute("SELECT turn_id FROM turns WHERE session_id = ?", (session_id,))]
    for turn_id in turn_ids:
        detach_reservation(db, turn_id, now)
    db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
    db.execute(DELETE_ANSWERS, (session_id,))
    return turn_ids


def select_session(db: sqlite3.Connection, session_id: str, window: RetentionWindow) -> SessionRecord | None:
    """The session, unless it has expired or all its turns are too old."""
    query = "SELECT * FROM sessions WHERE session_id = ? AND expires_at > ? AND last_message_at > ?"
    row = db.execute(query, (session_id, window.now, window.since)).fetchone()
    return decode_session(row, window.since) if row else None


def count_visible_messages(db: sqlite3.Connection, session_id: str, window: RetentionWindow) -> int:
    """The opening and the messages of the session that a reader may see."""
    session = select_session(db, session_id, window)
    if session is None:
        return 0
    query = """
        SELECT count(*) FROM turns JOIN messages USING (turn_id)
        WHERE session_id = :session_id AND turns.created_at > :since
    """
    (count,) = db.execute(query, {**window.parameters, "session_id": session_id}).fetchone()
    return int(count) + (session.opening is not None)


def set_session_ttl(
    db: sqlite3.Connection, session_id: str, ttl_s: int, window: RetentionWindow
) -> SessionRecord | None:
    """`Store.set_session_ttl`."""
    session = select_session(db, session_id, window)
    if session is None:
        return None
    changed = replace(session, ttl_s=ttl_s)
    _update_session(db, changed)
    return changed


def _begin_session(
    db: sqlite3.Connection,
    turn: TurnRecord,
    session: SessionRecord,
    claim: SessionClaim | None,
    window: RetentionWindow,
) -> bool:
    """Create the session as its first turn leaves it. False when another request has created it.

    An expired one with the same id is deleted first. Raises `SessionClaimed`.
    """
    row = encode_session(_continue_session(session, turn, claim))
    if insert_row(db, "sessions", row, or_ignore="session_id"):
        db.execute(DELETE_ANSWERS, (session.session_id,))
    elif select_session(db, session.session_id, window) is not None:
        return False
    else:
        delete_session(db, session.session_id, window.now)
        insert_row(db, "sessions", row)
    if session.handle is not None:
        query = "INSERT OR IGNORE INTO device_users (user_id, handle, created_at) VALUES (?, ?, ?)"
        db.execute(query, (session.session_id, session.handle, window.now))
    return True


def _continue_session(session: SessionRecord, turn: TurnRecord, claim: SessionClaim | None) -> SessionRecord:
    """The session with one more turn: its time, animal and owner are updated. Raises `SessionClaimed`."""
    if claim is not None and not claim.matches(session):
        raise SessionClaimed
    continued = replace(session, last_message_at=turn.created_at, turn_count=session.turn_count + 1)
    if session.animal_id != turn.animal_id:
        continued = replace(continued, animal_id=turn.animal_id, locked_at=turn.created_at)
    if claim is not None and claim.is_proved and not session.is_claimed:
        continued = replace(continued, owner=claim.owner, is_claimed=True)
    return continued


def _find_earlier_turn(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], window: RetentionWindow) -> str | None:
    """The turn that one of the keys was used for already; expired keys are deleted. `KeyReused` for another body."""
    for key in keys:
        db.execute("DELETE FROM idempotency_keys WHERE key = ? AND expires_at <= ?", (key.key, window.now))
        row = db.execute(SELECT_KEY, {"key": key.key, **window.parameters}).fetchone()
        if row is not None and row["body_hash"] != key.body_hash:
            raise KeyReused("Use a new Idempotency-Key for every new request.")
        if row is not None:
            return str(row["turn_id"])
    return None


def has_turn(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], window: RetentionWindow) -> bool:
    """`Store.has_turn`."""
    query = f"{SELECT_KEY} AND idempotency_keys.expires_at > :now"
    return any(db.execute(query, {"key": key.key, **window.parameters}).fetchone() is not None for key in keys)


def _store_keys(db: sqlite3.Connection, keys: Sequence[IdempotencyKey], turn_id: str) -> None:
    """Let every key stand for the turn, also when it was found by only one of them."""
    for key in keys:
        db.execute("DELETE FROM idempotency_keys WHERE key = ?", (key.key,))
        row = {
            "key": key.key,
            "body_hash": key.body_hash,
            "turn_id": turn_id,
            "expires_at": encode_time(key.expires_at),
        }
        insert_row(db, "idempotency_keys", row)


def _take_position(
    db: sqlite3.Connection, turn: TurnRecord, claim: SessionClaim | None, max_queued: int, window: RetentionWindow
) -> int:
    """The position of the new turn in its session, whose time, animal and owner are updated.

    Raises `SessionNotFound`, `SessionClaimed`, or `TurnRunning` when the turn can neither run nor wait.
    """
    session = select_session(db, turn.session_id, window)
    if session is None:
        raise SessionNotFound
    continued = _continue_session(session, turn, claim)
    _require_room(db, turn, max_queued)
    _update_session(db, continued)
    # Not the number of turns: old turns are deleted, and no position is given twice.
    (last,) = db.execute("SELECT max(position) FROM turns WHERE session_id = ?", (turn.session_id,)).fetchone()
    return (last or 0) + 1


def _require_room(db: sqlite3.Connection, turn: TurnRecord, max_queued: int) -> None:
    """Raise `TurnRunning` when the turn can neither run nor wait; it names the turn that runs, or runs next."""
    query = "SELECT turn_id, is_queued FROM turns WHERE session_id = ? AND ended_at IS NULL ORDER BY position"
    ahead = db.execute(query, (turn.session_id,)).fetchall()
    if turn.is_queued and sum(row["is_queued"] for row in ahead) >= max_queued:
        detail = "Too many messages wait for their turn in this session already. Send this one again later."
        raise TurnRunning(detail, turn_id=ahead[0]["turn_id"] if ahead else None)
    if ahead and not turn.is_queued:
        raise TurnRunning("Wait for the running turn to end, or read along with it.", turn_id=ahead[0]["turn_id"])


def _update_session(db: sqlite3.Connection, session: SessionRecord) -> None:
    db.execute(
        """
        UPDATE sessions SET last_message_at = :last_message_at, expires_at = :expires_at, turn_count = :turn_count,
        animal_id = :animal_id, locked_at = :locked_at, ttl_s = :ttl_s, owner = :owner, is_claimed = :is_claimed
        WHERE session_id = :session_id
        """,
        encode_session(session),
    )
