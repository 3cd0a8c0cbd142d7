"""What is kept of one person, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from openapi_server.models.audit import AuditEntry
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.user import USER_PREFIX
from openapi_server.protocols import Clock
from openapi_server.storage.sqlite.audit import decode_audit_entry
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.personal_data_rows import (
    TARGETS_PERSON,
    count_messages,
    delete_account,
    erase_credit_notes,
    erase_turn_ids,
    select_account,
    select_devices,
    select_session_data,
    select_session_ids,
)
from openapi_server.storage.sqlite.retention import delete_expired_content
from openapi_server.storage.sqlite.turns import delete_session
from openapi_server.storage.sqlite.visibility import RetentionWindow


class SqlitePersonalData:
    """`PrivacyStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock, retention: timedelta | None = None) -> None:
        self._connections = connections
        self._clock = clock
        self._retention = retention

    @property
    def _horizon(self) -> RetentionWindow:
        return RetentionWindow.at(self._clock.now(), self._retention)

    async def export(self, subject: DataSubject) -> PersonalData:
        horizon = self._horizon

        def gather(db: sqlite3.Connection) -> PersonalData:
            delete_expired_content(db, select_session_ids(db, subject), horizon)
            session_ids = select_session_ids(db, subject)
            return PersonalData(
                account=select_account(db, subject.username, horizon.now),
                devices=select_devices(db, subject, session_ids),
                sessions=tuple(select_session_data(db, session_id, horizon) for session_id in session_ids),
                audit_entries=_select_audit_entries(db, subject),
            )

        return await self._connections.write(gather)

    async def erase(self, subject: DataSubject, *, with_account: bool = False) -> Erasure:
        horizon = self._horizon

        def delete(db: sqlite3.Connection) -> Erasure:
            session_ids = select_session_ids(db, subject)
            devices = select_devices(db, subject, session_ids)
            messages = sum(count_messages(db, session_id) for session_id in session_ids)
            turn_ids = [
                turn_id for session_id in session_ids for turn_id in _erase_session(db, session_id, horizon.now)
            ]
            users = [(device.user_id,) for device in devices]
            db.executemany("DELETE FROM device_users WHERE user_id = ?", users)
            accounts = _erase_user(db, subject.username, with_account)
            return Erasure(len(session_ids), messages, len(devices), accounts, tuple(turn_ids))

        return await self._connections.write(delete)


def _erase_session(db: sqlite3.Connection, session_id: str, now: str) -> list[str]:
    """The session and all that was said in it; the turns' ids."""
    (owner,) = db.execute("SELECT owner FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    turn_ids = delete_session(db, session_id, now)
    if owner is not None and owner.startswith(USER_PREFIX):
        erase_turn_ids(db, owner.removeprefix(USER_PREFIX), turn_ids)
    return list(turn_ids)


def _erase_user(db: sqlite3.Connection, username: str | None, with_account: bool) -> int:
    if username is None:
        return 0
    erase_credit_notes(db, username)
    return delete_account(db, username) if with_account else 0


def _select_audit_entries(db: sqlite3.Connection, subject: DataSubject) -> tuple[AuditEntry, ...]:
    query = f"SELECT * FROM audit WHERE name = :somebody OR ({TARGETS_PERSON}) ORDER BY entry_id"  # noqa: S608  # of ours
    return tuple(decode_audit_entry(row) for row in db.execute(query, {"somebody": subject.audit_name}))
