"""Accounts and their logins in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from openapi_server.models.user import AuthenticatedUser, Login, Role, User
from openapi_server.protocols import Clock
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.sqlite.connections import Connections


class SqliteAccounts:
    """`AccountStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    @property
    def _now(self) -> str:
        return encode_time(self._clock.now())

    async def create_user(self, user: User) -> bool:
        query = "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        row = (
            user.username,
            user.role,
            user.password_hash,
            encode_time(user.created_at),
            user.parent,
            int(user.is_demo),
        )
        return await self._execute(query, row)

    async def get_user(self, username: str) -> User | None:
        def select(db: sqlite3.Connection) -> User | None:
            row = db.execute("SELECT * FROM users WHERE username = ?", (username,)).fetchone()
            return decode_user(row) if row else None

        return await self._connections.read(select)

    async def list_users(self) -> Sequence[User]:
        query = "SELECT * FROM users ORDER BY username"
        return await self._connections.read(lambda db: [decode_user(row) for row in db.execute(query)])

    async def set_role(self, username: str, role: Role) -> bool:
        return await self._execute("UPDATE users SET role = ? WHERE username = ?", (role, username))

    async def reset_password(self, username: str, password_hash: str) -> bool:
        now = self._now

        def update(db: sqlite3.Connection) -> bool:
            query = "UPDATE users SET password_hash = ?, is_demo = 0 WHERE username = ?"
            is_known = db.execute(query, (password_hash, username)).rowcount > 0
            db.execute("UPDATE logins SET ended_at = ? WHERE username = ? AND ended_at IS NULL", (now, username))
            return is_known

        return await self._connections.write(update)

    async def rehash_password(self, username: str, old_hash: str, new_hash: str) -> None:
        query = "UPDATE users SET password_hash = ? WHERE username = ? AND password_hash = ?"
        await self._execute(query, (new_hash, username, old_hash))

    async def create_login(self, login: Login, token_hash: str, password_hash: str) -> bool:
        now = self._now

        def insert(db: sqlite3.Connection) -> bool:
            # Expired logins are deleted here and nowhere else: a login is rare, so this costs little.
            db.execute("DELETE FROM logins WHERE expires_at <= ?", (now,))
            query = """
                INSERT INTO logins (login_id, username, began_at, expires_at)
                SELECT ?, username, ?, ? FROM users WHERE username = ? AND password_hash = ?
            """
            times = (encode_time(login.began_at), encode_time(login.expires_at))
            if not db.execute(query, (login.login_id, *times, login.username, password_hash)).rowcount:
                return False
            _insert_token(db, token_hash, login.login_id)
            return True

        return await self._connections.write(insert)

    async def refresh_login(
        self, token_hashes: Sequence[str], expires_at: datetime, repeatable_since: datetime
    ) -> tuple[Login, int] | None:
        now = self._now

        def rotate(db: sqlite3.Connection) -> tuple[Login, int] | None:
            login_id = _find_login(db, token_hashes[0], now)
            if login_id is None:
                return None
            used_at = _get_use(db, token_hashes[0])
            if used_at is not None and used_at <= encode_time(repeatable_since):
                _end_login(db, login_id, now)
                return None
            if used_at is not None:
                number = _find_unused_token(db, token_hashes)
                return (_select_login(db, login_id), number) if number is not None else None
            db.execute("UPDATE refresh_tokens SET used_at = ? WHERE token_hash = ?", (now, token_hashes[0]))
            _insert_token(db, token_hashes[1], login_id)
            db.execute("UPDATE logins SET expires_at = ? WHERE login_id = ?", (encode_time(expires_at), login_id))
            return _select_login(db, login_id), 1

        return await self._connections.write(rotate)

    async def end_login(self, login_id: str) -> bool:
        now = self._now
        return await self._connections.write(lambda db: _end_login(db, login_id, now))

    async def end_login_of_token(self, token_hash: str) -> bool:
        now = self._now

        def end(db: sqlite3.Connection) -> bool:
            login_id = _find_login(db, token_hash, now)
            return login_id is not None and _end_login(db, login_id, now)

        return await self._connections.write(end)

    async def get_authenticated_user(self, username: str, login_id: str) -> AuthenticatedUser | None:
        now = self._now

        def select(db: sqlite3.Connection) -> AuthenticatedUser | None:
            query = """
                SELECT username, role FROM users JOIN logins USING (username)
                WHERE username = ? AND login_id = ? AND ended_at IS NULL AND expires_at > ?
            """
            row = db.execute(query, (username, login_id, now)).fetchone()
            if row is None:
                return None
            role = Role(row["role"])
            children = _list_children(db, username) if role.rank >= Role.PARENT.rank else ()
            return AuthenticatedUser(username, role, children, login_id)

        return await self._connections.read(select)

    async def _execute(self, query: str, values: tuple[object, ...]) -> bool:
        return await self._connections.write(lambda db: db.execute(query, values).rowcount > 0)


def _find_login(db: sqlite3.Connection, token_hash: str, now: str) -> str | None:
    """The login that the refresh token belongs to, whether the token is used or not. None when the login has ended."""
    query = """
        SELECT login_id FROM refresh_tokens JOIN logins USING (login_id)
        WHERE token_hash = ? AND ended_at IS NULL AND expires_at > ?
    """
    row = db.execute(query, (token_hash, now)).fetchone()
    return str(row["login_id"]) if row else None


def _get_use(db: sqlite3.Connection, token_hash: str) -> str | None:
    """When the refresh token was used; None when it was not."""
    (used_at,) = db.execute("SELECT used_at FROM refresh_tokens WHERE token_hash = ?", (token_hash,)).fetchone()
    return str(used_at) if used_at else None


def _find_unused_token(db: sqlite3.Connection, token_hashes: Sequence[str]) -> int | None:
    """The number of the first stored token that is not used; None when there is none in the list."""
    query = "SELECT 1 FROM refresh_tokens WHERE token_hash = ? AND used_at IS NULL"
    return next((number for number, each in enumerate(token_hashes) if db.execute(query, (each,)).fetchone()), None)


def _select_login(db: sqlite3.Connection, login_id: str) -> Login:
    return decode_login(db.execute("SELECT * FROM logins WHERE login_id = ?", (login_id,)).fetchone())


def _list_children(db: sqlite3.Connection, username: str) -> tuple[str, ...]:
    rows = db.execute("SELECT username FROM users WHERE parent = ? ORDER BY username", (username,))
    return tuple(row["username"] for row in rows)


def _insert_token(db: sqlite3.Connection, token_hash: str, login_id: str) -> None:
    db.execute("INSERT INTO refresh_tokens (token_hash, login_id) VALUES (?, ?)", (token_hash, login_id))


def _end_login(db: sqlite3.Connection, login_id: str, now: str) -> bool:
    query = "UPDATE logins SET ended_at = ? WHERE login_id = ? AND ended_at IS NULL AND expires_at > ?"
    return db.execute(query, (now, login_id, now)).rowcount > 0


def decode_user(row: sqlite3.Row) -> User:
    return User(
        username=row["username"],
        role=Role(row["role"]),
        password_hash=row["password_hash"],
        created_at=datetime.fromisoformat(row["created_at"]),
        parent=row["parent"],
        is_demo=bool(row["is_demo"]),
    )


def decode_login(row: sqlite3.Row) -> Login:
    began_at, expires_at = datetime.fromisoformat(row["began_at"]), datetime.fromisoformat(row["expires_at"])
    return Login(row["login_id"], row["username"], began_at, expires_at)
