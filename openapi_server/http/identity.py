"""Who is calling: a logged-in user, a visitor with a session cookie, or a device.

A visitor without an account is known by a random cookie and needs nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass
from http.cookies import SimpleCookie

from openapi_server.http.async_handlers import RequestContext
from openapi_server.models.user import derive_cookie_owner

SESSION_COOKIE = "session_id"
DEVICE_COOKIE = "device_id"
# A browser that has logged in: see `accounts/login_protection`.
LOGIN_DEVICE_COOKIE = "login_device"
COOKIE_MAX_AGE_DAYS = 30
COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller.

    `owner` is what the store keeps: of a cookie only the hash, so that no row or backup holds a usable cookie.
    `set_cookie` is the value of the `Set-Cookie` header for a caller who came without a cookie.
    """

    owner: str
    set_cookie: str | None = None

    @property
    def is_new(self) -> bool:
        return self.set_cookie is not None

    @property
    def headers(self) -> dict[str, str]:
        return {"Set-Cookie": self.set_cookie} if self.set_cookie else {}


def identify_caller(context: RequestContext) -> Identity:
    """The caller of a request; a new visitor gets a cookie of 128 random bits."""
    owner = find_owner(context)
    if owner is not None:
        return Identity(owner)
    value = secrets.token_urlsafe(16)
    return Identity(derive_cookie_owner(value), build_cookie(context, SESSION_COOKIE, value))


def find_owner(context: RequestContext) -> str | None:
    """The owner that the request names: the logged-in user, else the session cookie if its form is valid, else None."""
    if context.user is not None:
        return context.user.owner
    value = context.cookies.get(SESSION_COOKIE, "")
    return derive_cookie_owner(value) if COOKIE_VALUE.fullmatch(value) else None


def get_name_scope(context: RequestContext, name: str) -> str:
    """The scope in which a name that the client chose is unique: its account or cookie, else `get_anonymous_scope`."""
    return find_owner(context) or get_anonymous_scope(context, name)


def get_anonymous_scope(context: RequestContext, name: str) -> str:
    """The scope of a name without an owner: a UUID is unique by itself, any other name within the client's address."""
    try:
        return f"uuid:{uuid.UUID(name)}"
    except ValueError:
        return f"address:{context.client_address}"


def derive_session_id(context: RequestContext, kind: str, scope: str, name: str) -> str:
    """The id of the session that a client's own name stands for: an HMAC, so that nobody can compute it from the name.

    Stored sessions depend on each `kind`: "platform", "tokens" (of `/chat`) and "device".
    """
    key = context.services.settings.signing_key.encode()
    digest = hmac.new(key, f"session\n{kind}\n{scope}\n{name}".encode(), hashlib.sha256)
    return f"sess_{digest.hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A device and its session. `name` is what it calls itself, else a name that does not reveal its cookie."""

    name: str
    session_id: str
    set_cookie: str | None = None

    @property
    def handle(self) -> str:
        """The name of the device's user in the store."""
        return f"chat_{self.name}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Set-Cookie": self.set_cookie} if self.set_cookie else {}


def identify_device(context: RequestContext) -> DeviceIdentity:
    """The device named by `X-Device-ID`, else by its cookie; a new one gets a cookie of 128 random bits."""
    name = context.headers.get("x-device-id")
    if name is not None:
        return DeviceIdentity(name, derive_session_id(context, "device", get_name_scope(context, name), name))
    cookie = context.cookies.get(DEVICE_COOKIE, "")
    value = cookie if COOKIE_VALUE.fullmatch(cookie) else secrets.token_urlsafe(16)
    set_cookie = None if value == cookie else build_cookie(context, DEVICE_COOKIE, value)
    # The cookie is secret and unique by itself; the name stands in logs and answers.
    name = hashlib.sha256(value.encode()).hexdigest()[:16]
    return DeviceIdentity(name, derive_session_id(context, "device", "cookie", value), set_cookie)


def build_cookie(context: RequestContext, name: str, value: str) -> str:
    """The value of `Set-Cookie`. With `COOKIE_SECURE=auto` the cookie is `Secure` in production and on HTTPS."""
    cookie = SimpleCookie({name: value})[name]
    settings = context.services.settings
    is_secure = settings.cookie_secure == "always" or (
        settings.cookie_secure == "auto" and (context.is_https or settings.environment == "production")
    )
    max_age_s = COOKIE_MAX_AGE_DAYS * 86_400
    same_site = settings.cookie_samesite.capitalize()
    attributes = {"httponly": True, "max-age": max_age_s, "path": "/", "samesite": same_site, "secure": is_secure}
    for attribute, setting in attributes.items():
        cookie[attribute] = setting
    return cookie.OutputString()
