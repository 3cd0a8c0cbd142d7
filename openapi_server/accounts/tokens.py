"""Access tokens (JWT, RFC 9068) and refresh tokens. Of an access token nothing counts before its signature."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import jwt

from openapi_server.models.errors import InvalidToken
from openapi_server.models.user import Login
from openapi_server.protocols import Clock

ISSUER = AUDIENCE = "zoochat"
ALGORITHM = "HS256"
# The whole header: no `kid`, `jku`, `jwk`, `x5u` or `crit` that somebody might look up or obey one day.
HEADER = {"alg": ALGORITHM, "typ": "at+jwt"}
REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti", "sid"]
# PyJWT asks the machine for the time; ours comes from the `Clock`.
OPTIONS: Any = {"require": REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False}


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Whose the token is, and which login it came from."""

    username: str
    login_id: str


class AccessTokens:
    """Makes and reads access tokens. `key` is one secret of 32 bytes or more, shared by all servers of a zoo."""

    def __init__(self, key: str, ttl_s: int, clock: Clock) -> None:
        self._key = key.encode()
        self.ttl_s = ttl_s
        self._clock = clock

    def issue(self, login: Login) -> str:
        now_s = self._now_s
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": login.username,
            "sid": login.login_id,
            "jti": str(uuid.uuid4()),
            "iat": now_s,
            "exp": now_s + self.ttl_s,
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers=HEADER)

    def verify(self, token: str) -> AccessClaims:
        """`InvalidToken` for everything that this server did not sign, and for what is not good at this second."""
        try:
            read = jwt.decode_complete(token, self._key, [ALGORITHM], options=OPTIONS, audience=AUDIENCE, issuer=ISSUER)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # The last three are what a header that nobody has signed can do to the JSON reader.
            raise InvalidToken from None
        claims = read["payload"]
        if read["header"] != HEADER or not self._is_now(claims) or not isinstance(claims["sid"], str):
            raise InvalidToken
        return AccessClaims(claims["sub"], claims["sid"])

    def _is_now(self, claims: dict[str, Any]) -> bool:
        """From `nbf` on, and before `exp`: not a second later (RFC 7519, section 4.1.4)."""
        begins, ends = claims.get("nbf", 0), claims["exp"]
        return type(begins) is int and type(ends) is int and begins <= self._now_s < ends

    @property
    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def create_refresh_token() -> str:
    """256 random bits that mean nothing: only the store knows what they are good for."""
    return secrets.token_urlsafe(32)


def hash_refresh_token(refresh_token: str) -> str:
    """What the store keeps. So much chance needs no salt, and no slow hash."""
    return hashlib.sha256(refresh_token.encode()).hexdigest()
