"""What the rows say of one person: reading all of it, and deleting it.

Functions on a connection whose transaction belongs to the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from openapi_server.models.audit import DOCUMENT_ACTIONS, ERASED_NAME
from openapi_server.models.personal_data import AccountData, DataSubject, SessionData
from openapi_server.models.session import DeviceUser
from openapi_server.storage.sqlite.accounts import decode_login, decode_user
from openapi_server.storage.sqlite.credits import decode_credit_entry, select_balance
from openapi_server.storage.sqlite.rows import SELECT_TURNS, decode_device_user, decode_session, decode_turn
from openapi_server.storage.sqlite.visibility import RetentionWindow

SELECT_DEVICES = "SELECT * FROM device_users WHERE handle = ? ORDER BY created_at, user_id"
# Everywhere that a username stands, but for the rows that go with the account's own.
USERNAME_COLUMNS = (
    ("users", "parent", None),
    ("audit", "name", ERASED_NAME),
    ("animal_changes", "changed_by", ERASED_NAME),
    ("animal_drafts", "made_by", ERASED_NAME),
    ("rule_changes", "changed_by", ERASED_NAME),
)
TARGETS_PERSON = f"about = :somebody AND deed NOT IN ({', '.join(repr(deed.value) for deed in DOCUMENT_ACTIONS)})"


def select_session_ids(db: sqlite3.Connection, subject: DataSubject) -> list[str]:
    """All sessions that are kept of them, whether they are over or not."""
    owned = db.execute("SELECT session_id FROM sessions WHERE owner = ?", (subject.owner,))
    on_device = db.execute("SELECT user_id FROM device_users WHERE handle = ?", (subject.handle,))
    named = [*(row[0] for row in owned), *(row[0] for row in on_device), *subject.session_ids]
    return [session_id for session_id in dict.fromkeys(named) if _has_session(db, session_id)]


def select_devices(
    db: sqlite3.Connection, subject: DataSubject, session_ids: Collection[str]
) -> tuple[DeviceUser, ...]:
    """The users behind their devices: those of the handle, and those that the sessions were begun with."""
    query = "SELECT * FROM device_users WHERE user_id = ?"
    rows = db.execute(SELECT_DEVICES, (subject.handle,)).fetchall()
    rows += [row for session_id in session_ids for row in db.execute(query, (session_id,))]
    return tuple(dict.fromkeys(decode_device_user(row) for row in rows))


def select_account(db: sqlite3.Connection, username: str | None, now: str) -> AccountData | None:
    row = db.execute("SELECT * FROM users WHERE username = ?", (username,)).fetchone()
    if row is None or username is None:
        return None
    logins = db.execute("SELECT * FROM logins WHERE username = ? ORDER BY began_at", (username,))
    entries = db.execute("SELECT * FROM credit_ledger WHERE username = ? ORDER BY entry_id", (username,))
    return AccountData(
        user=decode_user(row),
        logins=tuple(decode_login(login) for login in logins),
        balance=select_balance(db, username, now),
        credit_entries=tuple(decode_credit_entry(entry) for entry in entries),
    )


def select_session_data(db: sqlite3.Connection, session_id: str, horizon: RetentionWindow) -> SessionData:
    session = db.execute("SELECT * FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    named = {**horizon.parameters, "session_id": session_id}
    turns = db.execute(f"{SELECT_TURNS} WHERE turns.session_id = :session_id ORDER BY position", named)
    return SessionData(decode_session(session, horizon.since), tuple(decode_turn(turn) for turn in turns))


def count_messages(db: sqlite3.Connection, session_id: str) -> int:
    query = "SELECT count(*) FROM messages JOIN turns USING (turn_id) WHERE session_id = ?"
    (count,) = db.execute(query, (session_id,)).fetchone()
    return int(count)


def erase_credit_notes(db: sqlite3.Connection, username: str) -> None:
    """What is left tells how much was spent and when, and for nothing."""
    db.execute("UPDATE credit_ledger SET turn_id = NULL, notes = NULL WHERE username = ?", (username,))


def erase_turn_ids(db: sqlite3.Connection, username: str, turn_ids: Collection[str]) -> None:
    query = "UPDATE credit_ledger SET turn_id = NULL WHERE username = ? AND turn_id = ?"
    db.executemany(query, [(username, turn_id) for turn_id in turn_ids])


def delete_account(db: sqlite3.Connection, username: str) -> int:
    """The account with its logins, lots and ledger, and its name wherever else it stands; how many accounts."""
    for table, column, instead in USERNAME_COLUMNS:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (instead, username))  # noqa: S608  # names of ours
    about = {"somebody": username, "nobody": ERASED_NAME}
    db.execute(f"UPDATE audit SET about = :nobody WHERE {TARGETS_PERSON}", about)  # noqa: S608  # a text of ours
    return db.execute("DELETE FROM users WHERE username = ?", (username,)).rowcount


def _has_session(db: sqlite3.Connection, session_id: str) -> bool:
    return db.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone() is not None
