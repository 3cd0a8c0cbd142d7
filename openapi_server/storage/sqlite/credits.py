"""Credits in SQLite: lots that expire, entries that add up to them, and what running turns have reserved.

`reserve_credits`, `settle_reservation` and `detach_reservation` are functions on a connection, in the transaction of
the caller, so that a turn and its reservation start and end in one step. At every COMMIT the entries of a user add up
to what is left in the user's lots; nothing ever falls below zero.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import date, datetime

from openapi_server.models.credits import (
    NO_COST,
    Allocation,
    Balance,
    Charge,
    Cost,
    CreditEntry,
    CreditEntryKind,
    DailyUsage,
)
from openapi_server.models.errors import InsufficientCredits, UserNotFound
from openapi_server.models.page import Page, decode_cursor, make_page
from openapi_server.models.turn import IdempotencyKey
from openapi_server.protocols import Clock
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.sqlite.connections import Connections

# The `expires_at` of a lot that never expires: it sorts behind all encoded times.
NEVER = "9999"
MAX_ENTRY_ID = 2**63 - 1

# The lots that expire first are spent first; those that never expire come last.
SELECT_RESERVATIONS = """
    SELECT username, lot_id, held.credits, lease_until FROM credit_reservations AS held JOIN credit_lots USING (lot_id)
    WHERE turn_id = ? ORDER BY expires_at, lot_id
"""
SELECT_SPENDABLE_LOTS = """
    SELECT lot_id, remaining FROM credit_lots
    WHERE username = ? AND expires_at > ? AND remaining > 0 ORDER BY expires_at, lot_id
"""

# Of a turn that runs, while its process is believed to be alive.
DETACH_RESERVATION = """
    UPDATE credit_reservations SET worker = turns.worker, lease_until = turns.lease_until FROM turns
    WHERE turns.turn_id = ? AND credit_reservations.turn_id = turns.turn_id AND turns.lease_until > ?
"""
SELECT_RESERVE_ENTRY = "SELECT 1 FROM credit_ledger WHERE username = ? AND turn_id = ? AND kind = 'reserve'"

SUM_EXPIRED = "SELECT sum(remaining) FROM credit_lots WHERE username = ? AND expires_at <= ? AND remaining > 0"


class SqliteCredits:
    """`CreditStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    @property
    def _now(self) -> str:
        return encode_time(self._clock.now())

    async def allocate_credits(self, allocation: Allocation, key: IdempotencyKey | None = None) -> CreditEntry:
        at, until = encode_time(allocation.at), encode_time(allocation.expires_at) if allocation.expires_at else NEVER

        def insert(db: sqlite3.Connection) -> CreditEntry:
            _require_user(db, allocation.username)
            earlier = _find_earlier_entry(db, key, allocation.at) if key else None
            if earlier is not None:
                return earlier
            expire_credits(db, allocation.username, at)
            lot = (allocation.username, allocation.credits, allocation.credits, until)
            db.execute("INSERT INTO credit_lots (username, credits, remaining, expires_at) VALUES (?, ?, ?, ?)", lot)
            kind, amount, notes = CreditEntryKind.ALLOCATE, allocation.credits, allocation.notes
            entry_id = insert_entry(db, allocation.username, kind, amount, at, notes=notes)
            if key is not None:
                db.execute("UPDATE credit_ledger SET request_key = ? WHERE entry_id = ?", (key.key, entry_id))
            return decode_credit_entry(
                db.execute("SELECT * FROM credit_ledger WHERE entry_id = ?", (entry_id,)).fetchone()
            )

        return await self._connections.write(insert)

    async def get_balance(self, username: str) -> Balance | None:
        now = self._now

        def select(db: sqlite3.Connection) -> Balance | None:
            return select_balance(db, username, now) if _has_user(db, username) else None

        return await self._connections.read(select)

    async def list_entries(self, username: str, limit: int, cursor: str | None = None) -> Page[CreditEntry]:
        (before,) = decode_cursor(cursor, int) if cursor else (MAX_ENTRY_ID,)
        query = "SELECT * FROM credit_ledger WHERE username = ? AND entry_id < ? ORDER BY entry_id DESC LIMIT ?"
        rows = await self._connections.read(lambda db: db.execute(query, (username, before, limit + 1)).fetchall())
        return make_page(rows, limit, decode_credit_entry, "entry_id")

    async def list_daily_usage(self, username: str, first: date, last: date) -> Sequence[DailyUsage]:
        # Encoded times begin with their day.
        query = """
            SELECT substr(at, 1, 10) AS day, count(*) AS turns, total(tokens) AS tokens, total(spent) AS credits
            FROM credit_ledger WHERE username = ? AND kind = 'settle' AND at >= ? AND at < ? GROUP BY day ORDER BY day
        """
        values = (username, first.isoformat(), f"{last.isoformat()}U")
        rows = await self._connections.read(lambda db: db.execute(query, values).fetchall())
        return [
            DailyUsage(date.fromisoformat(row["day"]), row["turns"], int(row["tokens"]), int(row["credits"]))
            for row in rows
        ]


def select_balance(db: sqlite3.Connection, username: str, now: str) -> Balance:
    query = """
        SELECT coalesce(sum(remaining), 0) AS credits, min(expires_at) AS next FROM credit_lots
        WHERE username = ? AND expires_at > ? AND remaining > 0
    """
    row = db.execute(query, (username, now)).fetchone()
    is_lasting = row["next"] in (None, NEVER)
    return Balance(username, row["credits"], None if is_lasting else datetime.fromisoformat(row["next"]))


def reserve_credits(db: sqlite3.Connection, charge: Charge, turn_id: str, now: str) -> None:
    """Reserve what the turn may cost, or all there is if that is less. `InsufficientCredits` if there is none."""
    expire_credits(db, charge.username, now)
    missing = charge.max_credits
    for lot in db.execute(SELECT_SPENDABLE_LOTS, (charge.username, now)).fetchall():
        part = min(missing, lot["remaining"])
        missing -= part
        _reserve_part(db, turn_id, lot["lot_id"], part)
        if missing == 0:
            break
    if missing == charge.max_credits:
        raise InsufficientCredits("Ask an administrator for more credits.")
    insert_entry(db, charge.username, CreditEntryKind.RESERVE, missing - charge.max_credits, now, turn_id=turn_id)


def settle_reservation(db: sqlite3.Connection, turn_id: str, used: Cost, now: str) -> Cost:
    """Charge what the turn has used, and refund what else it has reserved. Returns what was charged: never more than
    was reserved, and nothing without a reservation.

    What is refunded to a lot that has expired meanwhile expires at once, with an entry of its own.
    """
    parts = db.execute(SELECT_RESERVATIONS, (turn_id,)).fetchall()
    reserved = sum(part["credits"] for part in parts)
    charged = used.limit(reserved)
    if not parts:
        return charged
    username, due = parts[0]["username"], charged.credits
    for part in parts:
        spent = min(due, part["credits"])
        due -= spent
        _refund_part(db, part["lot_id"], part["credits"] - spent)
    # The credit history of an erased session names no turn any more.
    is_named = parts[0]["lease_until"] is None or _has_reserve_entry(db, username, turn_id)
    db.execute("DELETE FROM credit_reservations WHERE turn_id = ?", (turn_id,))
    kind = CreditEntryKind.SETTLE if charged.credits else CreditEntryKind.REFUND
    refund = reserved - charged.credits
    entry_id = insert_entry(db, username, kind, refund, now, turn_id=turn_id if is_named else None)
    if kind is CreditEntryKind.SETTLE:
        query = "UPDATE credit_ledger SET tokens = ?, spent = ? WHERE entry_id = ?"
        db.execute(query, (charged.tokens, charged.credits, entry_id))
    expire_credits(db, username, now)
    return charged


def detach_reservation(db: sqlite3.Connection, turn_id: str, now: str) -> None:
    """The turn is about to be deleted, and with it its lease.

    While it runs, what it has reserved is kept with a copy of the lease: its process knows how much was said, and
    settles it. What no process will settle is refunded.
    """
    if not db.execute(DETACH_RESERVATION, (turn_id, now)).rowcount:
        settle_reservation(db, turn_id, NO_COST, now)


def _has_reserve_entry(db: sqlite3.Connection, username: str, turn_id: str) -> bool:
    return db.execute(SELECT_RESERVE_ENTRY, (username, turn_id)).fetchone() is not None


def expire_credits(db: sqlite3.Connection, username: str, now: str) -> None:
    """Empty the lots that have expired, with one entry for all of them."""
    (expired,) = db.execute(SUM_EXPIRED, (username, now)).fetchone()
    if expired:
        query = "UPDATE credit_lots SET remaining = 0 WHERE username = ? AND expires_at <= ? AND remaining > 0"
        db.execute(query, (username, now))
        insert_entry(db, username, CreditEntryKind.EXPIRE, -expired, now)


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
    """Insert an entry and return its id."""
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


def _find_earlier_entry(db: sqlite3.Connection, key: IdempotencyKey, at: datetime) -> CreditEntry | None:
    """The entry that was made with the key, while the key is valid; after that the key is free again."""
    row = db.execute("SELECT * FROM credit_ledger WHERE request_key = ?", (key.key,)).fetchone()
    if row is None:
        return None
    if row["at"] > encode_time(at - (key.expires_at - at)):
        return decode_credit_entry(row)
    db.execute("UPDATE credit_ledger SET request_key = NULL WHERE entry_id = ?", (row["entry_id"],))
    return None


def _has_user(db: sqlite3.Connection, username: str) -> bool:
    return db.execute("SELECT 1 FROM users WHERE username = ?", (username,)).fetchone() is not None


def _require_user(db: sqlite3.Connection, username: str) -> None:
    if not _has_user(db, username):
        raise UserNotFound


def decode_credit_entry(row: sqlite3.Row) -> CreditEntry:
    return CreditEntry(
        entry_id=str(row["entry_id"]),
        username=row["username"],
        kind=CreditEntryKind(row["kind"]),
        credits=row["credits"],
        at=datetime.fromisoformat(row["at"]),
        turn_id=row["turn_id"],
        notes=row["notes"],
        tokens=row["tokens"],
        spent=row["spent"],
    )
