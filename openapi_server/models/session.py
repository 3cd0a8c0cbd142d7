"""Sessions and the users of devices, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A conversation with one animal.

    `owner` is `user:<name>`, `cookie:<hash>` or `device:<hash>`, None in old records. The session expires `ttl_s`
    seconds after its last message. `title` and `opening` (a message before the first turn) are set by clients.

    A session that a client named has the `name_key` of that name, and the `name` itself where answers use it. Until a
    message comes with its cookie or token, it is not `is_claimed`, and the name alone reaches it. A turn in a session
    that `is_charged` costs its owner credits.

    The session of a device has a `handle`, which is `chat_<device>`. It may switch to another animal; `locked_at` is
    when it last did.
    """

    session_id: str
    animal_id: str
    owner: str | None
    created_at: datetime
    last_message_at: datetime
    turn_count: int = 0
    ttl_s: int = 86_400
    title: str | None = None
    opening: str | None = None
    handle: str | None = None
    locked_at: datetime | None = None
    name_key: str | None = None
    name: str | None = None
    is_claimed: bool = True
    is_charged: bool = False

    @property
    def expires_at(self) -> datetime:
        return self.last_message_at + timedelta(seconds=self.ttl_s)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are listed: with this animal now, and with the last message at `since` or later, before `until`.

    None: with any.
    """

    animal_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, session: SessionRecord) -> bool:
        return (
            self.animal_id in (None, session.animal_id)
            and (self.since is None or self.since <= session.last_message_at)
            and (self.until is None or session.last_message_at < self.until)
        )


ALL_SESSIONS = SessionFilter()


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """Who continues a session by the client's own name for it. `is_proved`: with a cookie, login or token beside it.

    A claimed session is only for its owner. A proved claim of an unclaimed session makes the claimant its owner.
    """

    owner: str | None
    is_proved: bool

    def matches(self, session: SessionRecord) -> bool:
        return not session.is_claimed or (self.is_proved and session.owner == self.owner)


@dataclass(frozen=True, slots=True)
class DeviceUser:
    """The user of a device, created with its first message. It outlives the sessions. `handle`: `chat_<device>`."""

    user_id: str
    handle: str
    created_at: datetime
