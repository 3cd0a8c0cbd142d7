"""Accounts, their roles and logins, and the user who is logged in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from openapi_server import linear_regex

# A username is also the user's id, in URLs and on the command line.
USERNAME = linear_regex.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
# The owner of a session is one string: `user:<username>`, or for a visitor without an account `cookie:<hash>`, or
# `device:<hash>` for a device without a name. A hash, so that no row and no backup holds a cookie that works.
USER_PREFIX, COOKIE_PREFIX, DEVICE_PREFIX = "user:", "cookie:", "device:"


class Role(StrEnum):
    """What a user may do. Each role may also do what the ones before it may."""

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
    """An account. `username` is its id and never changes: `[a-z0-9][a-z0-9_.-]{0,63}`.

    `parent`: the username of the parent who may read along. `is_demo`: the password is in the documentation.
    """

    username: str
    role: Role
    password_hash: str
    created_at: datetime
    parent: str | None = None
    is_demo: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """A login with a password: a family of refresh tokens, each of which replaces the one before (RFC 9700)."""

    login_id: str
    username: str
    began_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The logged-in caller. The role is the one in the store now, not the one at the time of the login."""

    username: str
    role: Role
    children: tuple[str, ...] = ()
    login_id: str = ""

    @property
    def owner(self) -> str:
        """The owner of the sessions that this user creates."""
        return f"{USER_PREFIX}{self.username}"

    def may_act_as(self, role: Role) -> bool:
        return self.role.rank >= role.rank


def derive_cookie_owner(cookie: str) -> str:
    """The owner of the sessions of a visitor with this cookie value."""
    return COOKIE_PREFIX + hashlib.sha256(cookie.encode()).hexdigest()[:40]


def derive_device_owner(cookie: str) -> str:
    """The owner of the session of a device without a name, which has this cookie value."""
    return DEVICE_PREFIX + hashlib.sha256(cookie.encode()).hexdigest()[:40]
