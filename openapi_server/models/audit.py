"""The audit trail as values: who did what with whose things. Never what somebody said, never a whole id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SHORT_HASH_LENGTH = 16
# What stands in the place of an account that is erased.
ERASED_NAME = "(erased)"


class AuditAction(StrEnum):
    """What is noted."""

    LOGIN = "login"
    LOGIN_REFUSED = "login_refused"
    ACCOUNT_ADDED = "account_added"
    ROLE_CHANGED = "role_changed"
    PASSWORD_RESET = "password_reset"  # noqa: S105  # a deed, not a secret
    CREDITS_GRANTED = "credits_granted"
    SESSION_DELETED = "session_deleted"
    EXPORTED = "exported"
    ERASED = "erased"
    ANIMAL_CHANGED = "animal_changed"
    RULE_CHANGED = "rule_changed"


# Of these `about` is no person, though it may be spelled like one: `lion_001` is a good username.
DOCUMENT_ACTIONS = (AuditAction.ANIMAL_CHANGED, AuditAction.RULE_CHANGED)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it. `role` is a person's, or `visitor`, or `operator` for whoever sits at the server's own terminal.

    `name` is a username, a visitor's hash, or None for somebody of whom nothing is known.
    """

    role: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed. `about` is a username, a hash or the beginning of an id; `request_id` is the one in the log."""

    at: datetime
    action: AuditAction
    actor: Actor
    target: str | None = None
    request_id: str | None = None


def shorten_owner(owner: str) -> str:
    """How an owner stands in the trail: a user by name, a visitor by part of the hash of a cookie.

    >>> mark_of("user:mia"), mark_of("cookie:5f0b6d0f6a2f4d1c9c7a5f0b6d0f6a2f4d1c9c7a")
    ('mia', 'cookie:5f0b6d0f6a2f4d1c')
    """
    kind, _, name = owner.partition(":")
    return name if kind == "user" else f"{kind}:{name[:SHORT_HASH_LENGTH]}"


def hash_device_handle(handle: str) -> str:
    """A device's name may tell whose it is: its hash finds its entries for whoever knows the name.

    >>> mark_of_device("chat_kiosk-7")
    'device:05219ecf5b568722'
    """
    return f"device:{hashlib.sha256(handle.encode()).hexdigest()[:SHORT_HASH_LENGTH]}"
