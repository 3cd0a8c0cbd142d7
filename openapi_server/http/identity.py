"""Who is calling. A visitor without an account is known by a random cookie, and needs nothing else."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

from openapi_server.http.async_handlers import Call
from openapi_server.models.user import owner_behind

COOKIE = "session_id"
DEVICE_COOKIE = "device_id"
COOKIE_DAYS = 30
OUR_COOKIE = re.compile(r"[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class Visitor:
    """`owner` is what the store may know: a hash, so that no row or backup holds a cookie that works."""

    owner: str
    set_cookie: str | None = None

    @property
    def is_new(self) -> bool:
        return self.set_cookie is not None

    @property
    def headers(self) -> dict[str, str]:
        """The `Set-Cookie` header, when the request brought no cookie of its own."""
        return {"Set-Cookie": self.set_cookie} if self.set_cookie else {}


def identify(call: Call) -> Visitor:
    """The visitor behind a request; a new one gets a cookie of 128 random bits."""
    known = known_owner(call)
    if known is not None:
        return Visitor(known)
    value = secrets.token_urlsafe(16)
    return Visitor(owner_behind(value), _cookie(call, COOKIE, value))


def known_owner(call: Call) -> str | None:
    """Who the request says it comes from: the logged-in person, else the cookie, if it has one that can be ours."""
    if call.person is not None:
        return call.person.owner
    value = call.cookies.get(COOKIE, "")
    return owner_behind(value) if OUR_COOKIE.fullmatch(value) else None


def scope_of(call: Call, chosen: str) -> str:
    """Within what a name that the client chose counts: its account, its cookie, nothing but itself, or its address."""
    return known_owner(call) or scope_without_owner(call, chosen)


def scope_without_owner(call: Call, chosen: str) -> str:
    """A UUID is nobody else's and counts by itself; any other name within the caller's address."""
    try:
        return f"uuid:{uuid.UUID(chosen)}"
    except ValueError:
        return f"address:{call.address}"


def session_named(call: Call, kind: str, scope: str, chosen: str) -> str:
    """The id of the session that a client's own name stands for. Nobody without our key can tell one from the other."""
    key = call.services.settings.signing_key.encode()
    digest = hmac.new(key, f"session\n{kind}\n{scope}\n{chosen}".encode(), hashlib.sha256)
    return f"sess_{digest.hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its session: `name` is what it calls itself, else one that tells nothing of our cookie."""

    name: str
    session_id: str
    set_cookie: str | None = None

    @property
    def handle(self) -> str:
        """Its user's name in our books."""
        return f"chat_{self.name}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Set-Cookie": self.set_cookie} if self.set_cookie else {}


def device_of(call: Call) -> Device:
    """The device that `X-Device-ID` names, else our cookie; a new one gets a cookie of 128 random bits."""
    named = call.headers.get("x-device-id")
    if named is not None:
        return Device(named, session_named(call, "device", scope_of(call, named), named))
    known = call.cookies.get(DEVICE_COOKIE, "")
    value = known if OUR_COOKIE.fullmatch(known) else secrets.token_urlsafe(16)
    set_cookie = None if value == known else _cookie(call, DEVICE_COOKIE, value)
    # The cookie is a secret, and counts by itself; the name stands in logs and answers.
    name = hashlib.sha256(value.encode()).hexdigest()[:16]
    return Device(name, session_named(call, "device", "cookie", value), set_cookie)


def _cookie(call: Call, name: str, value: str) -> str:
    secure = "; Secure" if call.services.settings.environment == "production" else ""
    return f"{name}={value}; HttpOnly; Max-Age={COOKIE_DAYS * 86_400}; Path=/; SameSite=Lax{secure}"
