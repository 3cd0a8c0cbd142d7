"""All data that is stored about one person, for an export or for erasure (GDPR, articles 15 and 17)."""

from __future__ import annotations

from dataclasses import dataclass

from openapi_server.models.audit import AuditEntry, hash_device_handle, shorten_owner
from openapi_server.models.credits import Balance, CreditEntry
from openapi_server.models.ids import shorten_id
from openapi_server.models.session import DeviceUser, SessionRecord
from openapi_server.models.turn import TurnRecord
from openapi_server.models.user import USER_PREFIX, Login, User

# An export has no more entries of the audit trail than this: somebody can export their data any number of times.
MAX_AUDIT_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class DataSubject:
    """The person, by whatever identifies them: an owner (`user:...`, `cookie:...`), a device, or ids of sessions.

    `handle`: the device as `chat_<device id>`.
    """

    owner: str | None = None
    handle: str | None = None
    session_ids: tuple[str, ...] = ()

    @property
    def username(self) -> str | None:
        if self.owner is None or not self.owner.startswith(USER_PREFIX):
            return None
        return self.owner.removeprefix(USER_PREFIX)

    @property
    def audit_name(self) -> str | None:
        """The person as the audit trail names them; None for nobody."""
        if self.owner is not None:
            return shorten_owner(self.owner)
        if self.handle is not None:
            return hash_device_handle(self.handle)
        return ", ".join(map(shorten_id, self.session_ids)) or None


@dataclass(frozen=True, slots=True)
class AccountData:
    """An account with its logins and credits."""

    user: User
    logins: tuple[Login, ...]
    balance: Balance
    credit_entries: tuple[CreditEntry, ...]


@dataclass(frozen=True, slots=True)
class SessionData:
    """A session and its turns, oldest first."""

    session: SessionRecord
    turns: tuple[TurnRecord, ...]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """All data that is stored about a person. `audit_entries`: the latest `MAX_AUDIT_ENTRIES`, oldest first."""

    account: AccountData | None = None
    devices: tuple[DeviceUser, ...] = ()
    sessions: tuple[SessionData, ...] = ()
    audit_entries: tuple[AuditEntry, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self == PersonalData()


@dataclass(frozen=True, slots=True)
class Erasure:
    """How much was erased. `turn_ids`: the turns whose events and readers a running server may still hold in memory."""

    sessions: int = 0
    messages: int = 0
    devices: int = 0
    accounts: int = 0
    turn_ids: tuple[str, ...] = ()

    @property
    def turns(self) -> int:
        return len(self.turn_ids)
