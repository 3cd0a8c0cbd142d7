"""Credits as rows: lots that run out, entries that add up to them, and what running turns hold back.

Functions on a connection whose transaction belongs to the caller, so that a turn and its charge begin and end in one
step. At every COMMIT a user's entries add up to what their lots hold; nothing ever falls below zero.
"""

from __future__ import annotations

import sqlite3

from openapi_server.models.credits import Charge, CreditEntryKind
from openapi_server.models.errors import InsufficientCredits

# Soonest lost, first spent; what never expires comes last.
SELECT_RESERVATIONS = """
    SELECT username, lot_id, held.credits FROM credit_reservations AS held JOIN credit_lots USING (lot_id)
    WHERE turn_id = ? ORDER BY expires_at, lot_id
"""
SELECT_SPENDABLE_LOTS = """
    SELECT lot_id, remaining FROM credit_lots
    WHERE username = ? AND expires_at > ? AND remaining > 0 ORDER BY expires_at, lot_id
"""

SUM_EXPIRED = "SELECT sum(remaining) FROM credit_lots WHERE username = ? AND expires_at <= ? AND remaining > 0"


def reserve_credits(db: sqlite3.Connection, charge: Charge, turn_id: str, now: str) -> None:
    """Hold back what the turn may cost, or all there is when that is less. `InsufficientCredits` when there is none."""
    expire_credits(db, charge.username, now)
    wanted = charge.max_credits
    for lot in db.execute(SELECT_SPENDABLE_LOTS, (charge.username, now)).fetchall():
        part = min(wanted, lot["remaining"])
        wanted -= part
        _reserve_part(db, turn_id, lot["lot_id"], part)
        if wanted == 0:
            break
    if wanted == charge.max_credits:
        raise InsufficientCredits("Ask an administrator for more credits.")
    insert_entry(db, charge.username, CreditEntryKind.RESERVE, wanted - charge.max_credits, now, turn_id=turn_id)


def settle_reservation(db: sqlite3.Connection, turn_id: str, used: int, now: str) -> None:
    """Give back what the turn held and did not use (`used` in credits). Nothing when it holds nothing (any more).

    What is given back to a lot whose time is over meanwhile is lost at once, with an entry that says so.
    """
    parts = db.execute(SELECT_RESERVATIONS, (turn_id,)).fetchall()
    if not parts:
        return
    username, owed, back = parts[0]["username"], max(used, 0), 0
    for part in parts:
        spent = min(owed, part["credits"])
        owed -= spent
        back += part["credits"] - spent
        _refund_part(db, part["lot_id"], part["credits"] - spent)
    db.execute("DELETE FROM credit_reservations WHERE turn_id = ?", (turn_id,))
    insert_entry(
        db, username, CreditEntryKind.SETTLE if used > 0 else CreditEntryKind.REFUND, back, now, turn_id=turn_id
    )
    expire_credits(db, username, now)


def expire_credits(db: sqlite3.Connection, username: str, now: str) -> None:
    """Empty the lots whose time is over."""
    (lost,) = db.execute(SUM_EXPIRED, (username, now)).fetchone()
    if lost:
        query = "UPDATE credit_lots SET remaining = 0 WHERE username = ? AND expires_at <= ? AND remaining > 0"
        db.execute(query, (username, now))
        insert_entry(db, username, CreditEntryKind.EXPIRE, -lost, now)


def insert_entry(
    db: sqlite3.Connection,
    username: str,
    kind: CreditEntryKind,
    credits: int,
    now: str,
    *,
    turn_id: str | None = None,
    notes: str | None = None,
) -> int:
    """Write one entry and return its number."""
    written = db.execute(
        "INSERT INTO credit_ledger (username, kind, credits, turn_id, at, notes) VALUES (?, ?, ?, ?, ?, ?)",
        (username, kind, credits, turn_id, now, notes),
    )
    return written.lastrowid or 0


def _reserve_part(db: sqlite3.Connection, turn_id: str, lot_id: int, credits: int) -> None:
    db.execute("UPDATE credit_lots SET remaining = remaining - ? WHERE lot_id = ?", (credits, lot_id))
    db.execute(
        "INSERT INTO credit_reservations (turn_id, lot_id, credits) VALUES (?, ?, ?)", (turn_id, lot_id, credits)
    )


def _refund_part(db: sqlite3.Connection, lot_id: int, credits: int) -> None:
    db.execute("UPDATE credit_lots SET remaining = remaining + ? WHERE lot_id = ?", (credits, lot_id))
