"""Who is calling. A visitor without an account is known by a random cookie, and needs nothing else."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from openapi_server.http.bridge import Call

COOKIE = "session_id"
COOKIE_DAYS = 30
_OURS = re.compile(r"[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class Visitor:
    """`owner` is what the store may know: a hash, so that no row or backup holds a cookie that works."""

    owner: str
    set_cookie: str | None

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
        return Visitor(known, None)
    value = secrets.token_urlsafe(16)
    secure = "; Secure" if call.services.settings.environment == "production" else ""
    attributes = f"HttpOnly; Max-Age={COOKIE_DAYS * 86_400}; Path=/; SameSite=Lax{secure}"
    return Visitor(_owner(value), f"{COOKIE}={value}; {attributes}")


def known_owner(call: Call) -> str | None:
    """The owner that the request's cookie names, if it has one that can be ours."""
    value = call.cookies.get(COOKIE, "")
    return _owner(value) if _OURS.fullmatch(value) else None


def _owner(cookie: str) -> str:
    return "cookie:" + hashlib.sha256(cookie.encode()).hexdigest()[:40]
