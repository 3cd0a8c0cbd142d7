"""The audit trail: who did what to whose data. It never contains what somebody said, nor a whole id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# The length of shortened hashes: enough to tell two apart, too little to use one.
SHORT_HASH_LENGTH = 16
# The target of a look at all that there is; no username is like this.
EVERYBODY = "*"
# Replaces the name of an erased account.
ERASED_NAME = "(erased)"


class AuditAction(StrEnum):
    """What is recorded. The values are stored."""

    LOGIN = "login"
    LOGIN_REFUSED = "login_refused"
    ACCOUNT_ADDED = "account_added"
    ROLE_CHANGED = "role_changed"
    PASSWORD_RESET = "password_reset"  # noqa: S105  # an action, not a secret
    CREDITS_GRANTED = "credits_granted"
    SESSION_DELETED = "session_deleted"
    SESSIONS_LISTED = "sessions_listed"
    SESSION_READ = "session_read"
    SESSION_OBSERVED = "session_observed"
    EXPORTED = "exported"
    ERASED = "erased"
    ANIMAL_CHANGED = "animal_changed"
    RULE_CHANGED = "rule_changed"


# The target of these is not a person, though it may look like one: `lion_001` is a valid username.
DOCUMENT_ACTIONS = (AuditAction.ANIMAL_CHANGED, AuditAction.RULE_CHANGED)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it. `role` is the role of a user, `visitor`, or `operator` for whoever uses the command line.

    `name`: a username, the hash of a visitor's cookie, or None when nothing is known.
    """

    role: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. `target`: a username, a hash, a shortened id or `EVERYBODY`; `request_id`: the one in the log."""

    at: datetime
    action: AuditAction
    actor: Actor
    target: str | None = None
    request_id: str | None = None


def shorten_owner(owner: str) -> str:
    """The owner as the audit trail names it: a user by name, a visitor by part of the hash of the cookie.

    >>> shorten_owner("user:mia"), shorten_owner("cookie:5f0b6d0f6a2f4d1c9c7a5f0b6d0f6a2f4d1c9c7a")
    ('mia', 'cookie:5f0b6d0f6a2f4d1c')
    """
    kind, _, name = owner.partition(":")
    return name if kind == "user" else f"{kind}:{name[:SHORT_HASH_LENGTH]}"


def hash_device_handle(handle: str) -> str:
    """A device as the audit trail names it: a hash, because the name may tell whose it is.

    Whoever knows the name finds the device's entries.

    >>> hash_device_handle("chat_kiosk-7")
    'device:05219ecf5b568722'
    """
    return f"device:{hashlib.sha256(handle.encode()).hexdigest()[:SHORT_HASH_LENGTH]}"
