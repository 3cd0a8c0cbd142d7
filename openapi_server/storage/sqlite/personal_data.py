"""What is kept of one person, in the SQLite file that the sessions are kept in."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from openapi_server.models.audit import AuditEntry
from openapi_server.models.personal_data import Dossier, Erased, Subject
from openapi_server.models.user import USER_PREFIX
from openapi_server.protocols import Clock
from openapi_server.storage.sqlite.audit import audit_entry
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.personal_data_rows import (
    ABOUT_SOMEBODY,
    account_of,
    count_messages,
    devices_of,
    forget_in_ledger,
    forget_turns_in_ledger,
    remove_account,
    session_ids_of,
    talk_of,
)
from openapi_server.storage.sqlite.retention import forget_behind
from openapi_server.storage.sqlite.turns import remove_session
from openapi_server.storage.sqlite.visibility import Horizon


class SqlitePrivacy:
    """`PrivacyStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock, retention: timedelta | None = None) -> None:
        self._connections = connections
        self._clock = clock
        self._retention = retention

    @property
    def _horizon(self) -> Horizon:
        return Horizon.at(self._clock.now(), self._retention)

    async def dossier(self, subject: Subject) -> Dossier:
        horizon = self._horizon

        def gather(db: sqlite3.Connection) -> Dossier:
            forget_behind(db, session_ids_of(db, subject), horizon)
            session_ids = session_ids_of(db, subject)
            return Dossier(
                account=account_of(db, subject.username, horizon.now),
                devices=devices_of(db, subject, session_ids),
                talks=tuple(talk_of(db, session_id, horizon) for session_id in session_ids),
                deeds=_deeds(db, subject),
            )

        return await self._connections.write(gather)

    async def erase(self, subject: Subject, *, with_account: bool = False) -> Erased:
        horizon = self._horizon

        def delete(db: sqlite3.Connection) -> Erased:
            session_ids = session_ids_of(db, subject)
            devices = devices_of(db, subject, session_ids)
            messages = sum(count_messages(db, session_id) for session_id in session_ids)
            turn_ids = [turn_id for session_id in session_ids for turn_id in _erase_talk(db, session_id, horizon.now)]
            users = [(device.user_id,) for device in devices]
            db.executemany("DELETE FROM device_users WHERE user_id = ?", users)
            accounts = _erase_user(db, subject.username, with_account)
            return Erased(len(session_ids), messages, len(devices), accounts, tuple(turn_ids))

        return await self._connections.write(delete)


def _erase_talk(db: sqlite3.Connection, session_id: str, now: str) -> list[str]:
    """The session and all that was said in it; the turns' ids."""
    (owner,) = db.execute("SELECT owner FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    turn_ids = remove_session(db, session_id, now)
    if owner is not None and owner.startswith(USER_PREFIX):
        forget_turns_in_ledger(db, owner.removeprefix(USER_PREFIX), turn_ids)
    return list(turn_ids)


def _erase_user(db: sqlite3.Connection, username: str | None, with_account: bool) -> int:
    if username is None:
        return 0
    forget_in_ledger(db, username)
    return remove_account(db, username) if with_account else 0


def _deeds(db: sqlite3.Connection, subject: Subject) -> tuple[AuditEntry, ...]:
    query = f"SELECT * FROM audit WHERE name = :somebody OR ({ABOUT_SOMEBODY}) ORDER BY entry_id"  # noqa: S608  # of ours
    return tuple(audit_entry(row) for row in db.execute(query, {"somebody": subject.mark}))
