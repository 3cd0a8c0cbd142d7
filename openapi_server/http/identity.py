"""Who is calling. A visitor without an account is known by a random cookie, and needs nothing else."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

from openapi_server.http.async_handlers import RequestContext
from openapi_server.models.user import derive_cookie_owner

SESSION_COOKIE = "session_id"
DEVICE_COOKIE = "device_id"
COOKIE_MAX_AGE_DAYS = 30
COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class Identity:
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


def identify_caller(context: RequestContext) -> Identity:
    """The visitor behind a request; a new one gets a cookie of 128 random bits."""
    known = find_owner(context)
    if known is not None:
        return Identity(known)
    value = secrets.token_urlsafe(16)
    return Identity(derive_cookie_owner(value), _build_cookie(context, SESSION_COOKIE, value))


def find_owner(context: RequestContext) -> str | None:
    """Who the request says it comes from: the logged-in person, else the cookie, if it has one that can be ours."""
    if context.user is not None:
        return context.user.owner
    value = context.cookies.get(SESSION_COOKIE, "")
    return derive_cookie_owner(value) if COOKIE_VALUE.fullmatch(value) else None


def get_name_scope(context: RequestContext, name: str) -> str:
    """Within what a name that the client chose counts: its account, its cookie, nothing but itself, or its address."""
    return find_owner(context) or get_anonymous_scope(context, name)


def get_anonymous_scope(context: RequestContext, name: str) -> str:
    """A UUID is nobody else's and counts by itself; any other name within the caller's address."""
    try:
        return f"uuid:{uuid.UUID(name)}"
    except ValueError:
        return f"address:{context.client_address}"


def derive_session_id(context: RequestContext, kind: str, scope: str, name: str) -> str:
    """The id of the session that a client's own name stands for. Nobody without our key can tell one from the other."""
    key = context.services.settings.signing_key.encode()
    digest = hmac.new(key, f"session\n{kind}\n{scope}\n{name}".encode(), hashlib.sha256)
    return f"sess_{digest.hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
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


def identify_device(context: RequestContext) -> DeviceIdentity:
    """The device that `X-Device-ID` names, else our cookie; a new one gets a cookie of 128 random bits."""
    named = context.headers.get("x-device-id")
    if named is not None:
        return DeviceIdentity(named, derive_session_id(context, "device", get_name_scope(context, named), named))
    known = context.cookies.get(DEVICE_COOKIE, "")
    value = known if COOKIE_VALUE.fullmatch(known) else secrets.token_urlsafe(16)
    set_cookie = None if value == known else _build_cookie(context, DEVICE_COOKIE, value)
    # The cookie is a secret, and counts by itself; the name stands in logs and answers.
    name = hashlib.sha256(value.encode()).hexdigest()[:16]
    return DeviceIdentity(name, derive_session_id(context, "device", "cookie", value), set_cookie)


def _build_cookie(context: RequestContext, name: str, value: str) -> str:
    secure = "; Secure" if context.services.settings.environment == "production" else ""
    return f"{name}={value}; HttpOnly; Max-Age={COOKIE_MAX_AGE_DAYS * 86_400}; Path=/; SameSite=Lax{secure}"
