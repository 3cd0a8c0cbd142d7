"""People with an account: their roles, what is kept of them, and who of them is calling."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# What a username looks like. It is the user's id, too, and stands in addresses and on command lines.
USERNAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
# Owners: whose sessions are, in one word. A visitor's is a hash, so that no row or backup holds a cookie that works.
USER_PREFIX, COOKIE_PREFIX = "user:", "cookie:"


class Role(StrEnum):
    """What a person may do; each role may also do what those below it may."""

    USER = "user"
    PARENT = "parent"
    ZOOKEEPER = "zookeeper"
    ADMINISTRATOR = "administrator"

    @property
    def rank(self) -> int:
        """
        >>> Role.USER.rank < Role.PARENT.rank < Role.ZOOKEEPER.rank < Role.ADMINISTRATOR.rank
        True
        """
        return list(Role).index(self)


@dataclass(frozen=True, slots=True)
class User:
    """An account. `username` is its id everywhere and never changes: `[a-z0-9][a-z0-9_.-]{0,63}`.

    `parent` is the username of the grown-up who may read along. `is_demo`: its password is public knowledge.
    """

    username: str
    role: Role
    password_hash: str
    created_at: datetime
    parent: str | None = None
    is_demo: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """What one person began with a password: a family of refresh tokens, each of which replaces the one before."""

    login_id: str
    username: str
    began_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The logged-in caller. The role is the store's, as it is now, not the one that a token was made with."""

    username: str
    role: Role
    children: tuple[str, ...] = ()
    login_id: str = ""

    @property
    def owner(self) -> str:
        """Whose the sessions are that this person begins."""
        return f"{USER_PREFIX}{self.username}"

    def may_act_as(self, role: Role) -> bool:
        return self.role.rank >= role.rank


def derive_cookie_owner(cookie: str) -> str:
    """Whose the sessions are that came with a visitor's cookie."""
    return COOKIE_PREFIX + hashlib.sha256(cookie.encode()).hexdigest()[:40]
