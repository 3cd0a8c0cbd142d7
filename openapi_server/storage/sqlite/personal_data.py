"""All data of one person in SQLite: collects it for an export, and erases it.

A new table or column with data about people must be added here, and to `models/personal_data.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import timedelta

from openapi_server.models.audit import DOCUMENT_ACTIONS, ERASED_NAME, AuditEntry
from openapi_server.models.personal_data import (
    MAX_AUDIT_ENTRIES,
    AccountData,
    DataSubject,
    Erasure,
    PersonalData,
    SessionData,
)
from openapi_server.models.session import DeviceUser
from openapi_server.models.user import USER_PREFIX
from openapi_server.protocols import Clock
from openapi_server.storage.retention_window import RetentionWindow
from openapi_server.storage.sqlite.accounts import decode_login, decode_user
from openapi_server.storage.sqlite.audit import decode_audit_entry
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.credits import decode_credit_entry, select_balance
from openapi_server.storage.sqlite.retention import delete_expired_content
from openapi_server.storage.sqlite.rows import SELECT_TURNS, decode_device_user, decode_session, decode_turn
from openapi_server.storage.sqlite.turns import delete_session

SELECT_DEVICES = "SELECT * FROM device_users WHERE handle = ? ORDER BY created_at, user_id"
# Every column with a username, and what replaces the name of an erased account. Not in the list: rows that are deleted
# with the account (`ON DELETE CASCADE`).
USERNAME_COLUMNS = (
    ("users", "parent", None),
    ("audit", "name", ERASED_NAME),
    ("animal_changes", "changed_by", ERASED_NAME),
    ("animal_drafts", "made_by", ERASED_NAME),
    ("rule_changes", "changed_by", ERASED_NAME),
)
TARGETS_PERSON = f"about = :person AND deed NOT IN ({', '.join(repr(action.value) for action in DOCUMENT_ACTIONS)})"


class SqlitePersonalData:
    """`PersonalDataStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock, retention: timedelta | None = None) -> None:
        self._connections = connections
        self._clock = clock
        self._retention = retention

    @property
    def _window(self) -> RetentionWindow:
        return RetentionWindow.at(self._clock.now(), self._retention)

    async def export(self, subject: DataSubject) -> PersonalData:
        window = self._window

        def gather(db: sqlite3.Connection) -> PersonalData:
            delete_expired_content(db, select_session_ids(db, subject), window)
            session_ids = select_session_ids(db, subject)
            return PersonalData(
                account=select_account(db, subject.username, window.now),
                devices=select_devices(db, subject, session_ids),
                sessions=tuple(select_session_data(db, session_id, window) for session_id in session_ids),
                audit_entries=_select_audit_entries(db, subject),
            )

        return await self._connections.write(gather)

    async def erase(self, subject: DataSubject, *, with_account: bool = False) -> Erasure:
        window = self._window

        def delete(db: sqlite3.Connection) -> Erasure:
            session_ids = select_session_ids(db, subject)
            devices = select_devices(db, subject, session_ids)
            messages = sum(count_messages(db, session_id) for session_id in session_ids)
            turn_ids = [turn_id for session_id in session_ids for turn_id in _erase_session(db, session_id, window.now)]
            users = [(device.user_id,) for device in devices]
            db.executemany("DELETE FROM device_users WHERE user_id = ?", users)
            accounts = _erase_user(db, subject.username, with_account)
            return Erasure(len(session_ids), messages, len(devices), accounts, tuple(turn_ids))

        return await self._connections.write(delete)


def _erase_session(db: sqlite3.Connection, session_id: str, now: str) -> list[str]:
    """Erase the session and its turns, and what the credit history tells of them. Returns the ids of the turns."""
    (owner,) = db.execute("SELECT owner FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    turn_ids = delete_session(db, session_id, now)
    if owner is not None and owner.startswith(USER_PREFIX):
        erase_turn_ids(db, owner.removeprefix(USER_PREFIX), turn_ids)
    return list(turn_ids)


def _erase_user(db: sqlite3.Connection, username: str | None, with_account: bool) -> int:
    if username is None:
        return 0
    erase_credit_notes(db, username)
    db.execute("DELETE FROM answers WHERE owner = ? OR subject = ?", (USER_PREFIX + username, username))
    return delete_account(db, username) if with_account else 0


def _select_audit_entries(db: sqlite3.Connection, subject: DataSubject) -> tuple[AuditEntry, ...]:
    """The latest entries by and about the person, oldest first. Entries without a name belong to nobody."""
    if subject.audit_name is None:
        return ()
    is_theirs = f"name = :person OR ({TARGETS_PERSON})"
    query = f"SELECT * FROM audit WHERE {is_theirs} ORDER BY entry_id DESC LIMIT :limit"  # noqa: S608  # a text of ours
    rows = db.execute(query, {"person": subject.audit_name, "limit": MAX_AUDIT_ENTRIES}).fetchall()
    return tuple(decode_audit_entry(row) for row in reversed(rows))


def select_session_ids(db: sqlite3.Connection, subject: DataSubject) -> list[str]:
    """The ids of all stored sessions of the person, expired or not."""
    owned = db.execute("SELECT session_id FROM sessions WHERE owner = ?", (subject.owner,))
    on_device = db.execute("SELECT user_id FROM device_users WHERE handle = ?", (subject.handle,))
    named = [*(row[0] for row in owned), *(row[0] for row in on_device), *subject.session_ids]
    return [session_id for session_id in dict.fromkeys(named) if _has_session(db, session_id)]


def select_devices(
    db: sqlite3.Connection, subject: DataSubject, session_ids: Collection[str]
) -> tuple[DeviceUser, ...]:
    """The users of their devices: those with the handle, and those of the sessions."""
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


def select_session_data(db: sqlite3.Connection, session_id: str, window: RetentionWindow) -> SessionData:
    session = db.execute("SELECT * FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    named = {**window.parameters, "session_id": session_id}
    turns = db.execute(f"{SELECT_TURNS} WHERE turns.session_id = :session_id ORDER BY position", named)
    return SessionData(decode_session(session, window.since), tuple(decode_turn(turn) for turn in turns))


def count_messages(db: sqlite3.Connection, session_id: str) -> int:
    query = "SELECT count(*) FROM messages JOIN turns USING (turn_id) WHERE session_id = ?"
    (count,) = db.execute(query, (session_id,)).fetchone()
    return int(count)


def erase_credit_notes(db: sqlite3.Connection, username: str) -> None:
    """What stays in the credit history is amounts and times."""
    db.execute(
        "UPDATE credit_ledger SET turn_id = NULL, notes = NULL, request_key = NULL WHERE username = ?", (username,)
    )


def erase_turn_ids(db: sqlite3.Connection, username: str, turn_ids: Collection[str]) -> None:
    query = "UPDATE credit_ledger SET turn_id = NULL WHERE username = ? AND turn_id = ?"
    db.executemany(query, [(username, turn_id) for turn_id in turn_ids])


def delete_account(db: sqlite3.Connection, username: str) -> int:
    """Delete the account with its logins and credits, and replace its name everywhere else. Returns 0 or 1."""
    for table, column, replacement in USERNAME_COLUMNS:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (replacement, username))  # noqa: S608  # names of ours
    about = {"person": username, "erased": ERASED_NAME}
    db.execute(f"UPDATE audit SET about = :erased WHERE {TARGETS_PERSON}", about)  # noqa: S608  # a text of ours
    return db.execute("DELETE FROM users WHERE username = ?", (username,)).rowcount


def _has_session(db: sqlite3.Connection, session_id: str) -> bool:
    return db.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone() is not None
