"""Sessions and the users of devices, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A conversation with one animal at a time.

    `owner` is whose it is (`cookie:...`, `user:...`), None for nobody's. It ends `ttl_s` seconds after its last
    message: from then on it is not there, whether it was purged yet or not. `title` and `opening`, the visitor's words
    before the first turn, are what a client may give it. A device's session has a `handle`, the device's name in our
    books, and may change its animal: `locked_at` is when it last did.
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
    """Whoever holds a device, from its first message on and longer than its sessions. `handle`: `chat_<device>`."""

    user_id: str
    handle: str
    created_at: datetime
