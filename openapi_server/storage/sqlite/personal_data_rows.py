"""What the rows say of one person: reading all of it, and deleting it.

Functions on a connection whose transaction belongs to the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from openapi_server.models.audit import DONE_TO_THINGS, NOBODY
from openapi_server.models.personal_data import Account, Subject, Talk
from openapi_server.models.session import DeviceUser
from openapi_server.storage.sqlite.accounts import login_record, user_record
from openapi_server.storage.sqlite.credits import balance_now, ledger_entry
from openapi_server.storage.sqlite.rows import TURNS, device_user, session_record, turn_record
from openapi_server.storage.sqlite.visibility import Horizon

DEVICES = "SELECT * FROM device_users WHERE handle = ? ORDER BY created_at, user_id"
# Everywhere that a username stands, but for the rows that go with the account's own.
NAMES = (
    ("users", "parent", None),
    ("audit", "name", NOBODY),
    ("animal_changes", "changed_by", NOBODY),
    ("animal_drafts", "made_by", NOBODY),
    ("rule_changes", "changed_by", NOBODY),
)
ABOUT_SOMEBODY = f"about = :somebody AND deed NOT IN ({', '.join(repr(deed.value) for deed in DONE_TO_THINGS)})"


def session_ids_of(db: sqlite3.Connection, subject: Subject) -> list[str]:
    """All sessions that are kept of them, whether they are over or not."""
    owned = db.execute("SELECT session_id FROM sessions WHERE owner = ?", (subject.owner,))
    on_device = db.execute("SELECT user_id FROM device_users WHERE handle = ?", (subject.handle,))
    named = [*(row[0] for row in owned), *(row[0] for row in on_device), *subject.session_ids]
    return [session_id for session_id in dict.fromkeys(named) if _is_kept(db, session_id)]


def devices_of(db: sqlite3.Connection, subject: Subject, session_ids: Collection[str]) -> tuple[DeviceUser, ...]:
    """The users behind their devices: those of the handle, and those that the sessions were begun with."""
    query = "SELECT * FROM device_users WHERE user_id = ?"
    rows = db.execute(DEVICES, (subject.handle,)).fetchall()
    rows += [row for session_id in session_ids for row in db.execute(query, (session_id,))]
    return tuple(dict.fromkeys(device_user(row) for row in rows))


def account_of(db: sqlite3.Connection, username: str | None, now: str) -> Account | None:
    row = db.execute("SELECT * FROM users WHERE username = ?", (username,)).fetchone()
    if row is None or username is None:
        return None
    logins = db.execute("SELECT * FROM logins WHERE username = ? ORDER BY began_at", (username,))
    entries = db.execute("SELECT * FROM credit_ledger WHERE username = ? ORDER BY entry_id", (username,))
    return Account(
        user=user_record(row),
        logins=tuple(login_record(login) for login in logins),
        balance=balance_now(db, username, now),
        entries=tuple(ledger_entry(entry) for entry in entries),
    )


def talk_of(db: sqlite3.Connection, session_id: str, horizon: Horizon) -> Talk:
    session = db.execute("SELECT * FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    named = {**horizon.named, "session_id": session_id}
    turns = db.execute(f"{TURNS} WHERE turns.session_id = :session_id ORDER BY position", named)
    return Talk(session_record(session, horizon.since), tuple(turn_record(turn) for turn in turns))


def count_messages(db: sqlite3.Connection, session_id: str) -> int:
    query = "SELECT count(*) FROM messages JOIN turns USING (turn_id) WHERE session_id = ?"
    (count,) = db.execute(query, (session_id,)).fetchone()
    return int(count)


def forget_in_ledger(db: sqlite3.Connection, username: str) -> None:
    """What is left tells how much was spent and when, and for nothing."""
    db.execute("UPDATE credit_ledger SET turn_id = NULL, notes = NULL WHERE username = ?", (username,))


def forget_turns_in_ledger(db: sqlite3.Connection, username: str, turn_ids: Collection[str]) -> None:
    query = "UPDATE credit_ledger SET turn_id = NULL WHERE username = ? AND turn_id = ?"
    db.executemany(query, [(username, turn_id) for turn_id in turn_ids])


def remove_account(db: sqlite3.Connection, username: str) -> int:
    """The account with its logins, lots and ledger, and its name wherever else it stands; how many accounts."""
    for table, column, instead in NAMES:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (instead, username))  # noqa: S608  # names of ours
    about = {"somebody": username, "nobody": NOBODY}
    db.execute(f"UPDATE audit SET about = :nobody WHERE {ABOUT_SOMEBODY}", about)  # noqa: S608  # a text of ours
    return db.execute("DELETE FROM users WHERE username = ?", (username,)).rowcount


def _is_kept(db: sqlite3.Connection, session_id: str) -> bool:
    return db.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone() is not None
