"""Sessions and the users of devices, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A conversation with one animal.

    `owner` is `user:<name>` or `cookie:<hash>`, None for a session without an owner. The session expires `ttl_s`
    seconds after its last message. `title` and `opening` (a message before the first turn) are set by clients.

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

    @property
    def expires_at(self) -> datetime:
        return self.last_message_at + timedelta(seconds=self.ttl_s)


@dataclass(frozen=True, slots=True)
class DeviceUser:
    """The user of a device, created with its first message. It outlives the sessions. `handle`: `chat_<device>`."""

    user_id: str
    handle: str
    created_at: datetime
