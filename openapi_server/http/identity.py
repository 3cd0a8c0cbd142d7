"""Who is calling: a logged-in user, a visitor with a session cookie, or a device.

A visitor without an account is known by a random cookie and needs nothing else.
"""

from __future__ import annotations

import hmac
import re
import secrets
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from http.cookies import Morsel

from openapi_server.http.async_handlers import RequestContext
from openapi_server.models.errors import InvalidInput
from openapi_server.models.user import derive_cookie_owner, derive_device_owner

SESSION_PREFIX = "sess_"
SESSION_COOKIE = "session_id"
DEVICE_COOKIE = "device_id"
# A browser that has logged in: see `accounts/login_protection`.
LOGIN_DEVICE_COOKIE = "login_device"
COOKIE_MAX_AGE_DAYS = 30
# RFC 9562 gives these two a meaning of their own: everybody knows them.
NIL_UUID, MAX_UUID = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)
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
    return Identity(owner) if owner is not None else make_new_cookie_identity(context)


def find_owner(context: RequestContext) -> str | None:
    """The owner that the request names: the logged-in user, else the session cookie if its form is valid, else None."""
    return context.user.owner if context.user is not None else _find_cookie_owner(context)


def list_owners(context: RequestContext) -> frozenset[str]:
    """Everything that the request proves to be: the logged-in user, the session cookie and the device cookie."""
    device = _get_cookie(context, DEVICE_COOKIE)
    owners = (find_owner(context), _find_cookie_owner(context), derive_device_owner(device) if device else None)
    return frozenset(owner for owner in owners if owner is not None)


def is_unguessable(name: str) -> bool:
    """Whether a name that the client chose is a UUID, which nobody else knows.

    >>> is_unguessable("550e8400-e29b-41d4-a716-446655440000"), is_unguessable("kiosk-7")
    (True, False)
    """
    try:
        return uuid.UUID(name) not in (NIL_UUID, MAX_UUID)
    except ValueError:
        return False


def get_anonymous_scope(context: RequestContext, name: str) -> str:
    """The scope of a name without an owner: a UUID is unique by itself, any other name within the client's address."""
    return f"uuid:{uuid.UUID(name)}" if is_unguessable(name) else f"address:{context.client_address}"


def derive_session_id(context: RequestContext, kind: str, scope: str, name: str) -> str:
    """The id of the session that a client's own name stands for: an HMAC, so that nobody can compute it from the name.

    Stored sessions depend on each `kind`: "convo", "platform", "tokens" (of `/chat`) and "device".
    """
    return f"sess_{_sign(context, 'session', kind, scope, name).hex()[:32]}"


def derive_session_name(context: RequestContext, idempotency_key: str, owner: str | None) -> str | None:
    """The name of the session that a request without one begins: a UUID, which its repetition gets, too.

    None where another caller might send the same key.
    """
    if is_unguessable(idempotency_key):
        owner = ""
    if owner is None:
        return None
    return str(uuid.UUID(bytes=_sign(context, "session name", owner, idempotency_key)[:16], version=4))


def derive_name_key(context: RequestContext, kind: str, name: str) -> str:
    """What the store keeps of a client's own name for a session, in every scope. `kind` as in `derive_session_id`."""
    return _sign(context, "name", kind, name).hex()[:32]


def make_session_token(context: RequestContext, session_id: str) -> str:
    """The `X-Session-Token` of a visitor's session: its id and an HMAC of it, 256 bits. It is not stored."""
    signature = urlsafe_b64encode(_sign(context, "session token", session_id)).decode().rstrip("=")
    return f"{session_id.removeprefix(SESSION_PREFIX)}.{signature}"


def read_session_token(context: RequestContext) -> str | None:
    """The id of the session whose valid token the request brings; None without one."""
    given = context.headers.get("x-session-token", "")
    session_id = SESSION_PREFIX + given.partition(".")[0]
    # Computed for every value, so that a wrong one takes the same time.
    expected = make_session_token(context, session_id)
    return session_id if hmac.compare_digest(expected.encode(), given.encode()) else None


def choose_session_id(context: RequestContext, query: str | None, name: str = "sessionId") -> str | None:
    """The session id of the header `X-Session-Id`, else of the query parameter, which proxies write into their logs."""
    given = {*context.headers.getlist("x-session-id"), *([] if query is None else [query])}
    if len(given) > 1:
        raise InvalidInput.for_field("X-Session-Id", f"must be the same as {name} in the query, or alone")
    return given.pop() if given else None


def make_new_cookie_identity(context: RequestContext) -> Identity:
    """A new visitor with a cookie of 128 random bits."""
    value = secrets.token_urlsafe(16)
    return Identity(derive_cookie_owner(value), build_cookie(context, SESSION_COOKIE, value))


def get_device_cookie(context: RequestContext) -> str | None:
    return _get_cookie(context, DEVICE_COOKIE)


def build_cookie(context: RequestContext, name: str, value: str) -> str:
    """The value of `Set-Cookie`. With `COOKIE_SECURE=auto` the cookie is `Secure` in production and on HTTPS.

    The value is one that we have made, and needs no quotes.
    """
    settings = context.services.settings
    is_secure = settings.cookie_secure == "always" or (
        settings.cookie_secure == "auto" and (context.is_https or settings.environment == "production")
    )
    return f"{name}={value}; {_format_cookie_attributes(settings.cookie_samesite, is_secure=is_secure)}"


@lru_cache
def _format_cookie_attributes(same_site: str, *, is_secure: bool) -> str:
    cookie: Morsel[str] = Morsel()
    cookie.set("name", "", "")
    max_age_s = COOKIE_MAX_AGE_DAYS * 86_400
    same_site = same_site.capitalize()
    attributes = {"httponly": True, "max-age": max_age_s, "path": "/", "samesite": same_site, "secure": is_secure}
    for attribute, setting in attributes.items():
        cookie[attribute] = setting
    return cookie.OutputString().partition("; ")[2]


def _find_cookie_owner(context: RequestContext) -> str | None:
    value = _get_cookie(context, SESSION_COOKIE)
    return derive_cookie_owner(value) if value else None


def _get_cookie(context: RequestContext, name: str) -> str | None:
    """The value of the cookie, if its form is valid."""
    value = context.cookies.get(name, "")
    return value if COOKIE_VALUE.fullmatch(value) else None


def _sign(context: RequestContext, purpose: str, *parts: str) -> bytes:
    """An HMAC with the signing key. Each purpose has its own first line, so that no value serves for another."""
    key = context.services.settings.signing_key.encode()
    return hmac.digest(key, "\n".join((purpose, *parts)).encode(), "sha256")
