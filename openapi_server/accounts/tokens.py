"""Access tokens (JWT profile of RFC 9068, checked as RFC 8725 advises) and refresh tokens (opaque)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass

import jwt
from jwt.types import Options

from openapi_server.models.errors import InvalidToken
from openapi_server.models.user import Login

ISSUER = AUDIENCE = "zoochat"
ALGORITHM = "HS256"
# The whole header: a token with a `kid`, `jku`, `jwk`, `x5u` or `crit` is refused, and none of them is ever looked up.
HEADER = {"alg": ALGORITHM, "typ": "at+jwt"}
# PyJWT checks `exp` and `nbf` without leeway. `iat` is only required: a server whose clock is a little behind that of
# the one that issued the token would refuse it, and RFC 7519 (section 4.1.6) gives no reason to.
OPTIONS: Options = {"require": ["exp", "iat", "iss", "aud", "sub", "jti", "sid"], "verify_iat": False}


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Whose the token is, and the login that it came from."""

    username: str
    login_id: str


class AccessTokens:
    """Issues and verifies access tokens, by the system's clock, which is the one that PyJWT uses.

    `key`: one secret of 32 bytes or more, shared by all servers of a zoo. `ttl_s`: how long a token is valid.
    """

    def __init__(self, key: str, ttl_s: int) -> None:
        self._key = key.encode()
        self.ttl_s = ttl_s

    def issue(self, login: Login) -> str:
        now_s = int(time.time())
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

    def derive_refresh_token(self, used: str) -> str:
        """The successor of a used refresh token, 256 bits.

        It is derived, not stored, so that a repeated refresh gets the same answer although the database holds only
        hashes (RFC 9700, section 4.14). Without the key nobody can compute it from the used token.
        """
        digest = hmac.new(self._key, f"refresh token\n{used}".encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")

    def verify(self, token: str, *, may_be_expired: bool = False) -> AccessClaims:
        """Raises `InvalidToken` unless this server signed the token and it is valid at this second."""
        options: Options = {**OPTIONS, "verify_exp": not may_be_expired}
        try:
            read = jwt.decode_complete(token, self._key, [ALGORITHM], options=options, audience=AUDIENCE, issuer=ISSUER)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # The last three are what the JSON parser raises for a malicious header, before the signature is checked.
            raise InvalidToken from None
        claims = read["payload"]
        if read["header"] != HEADER or not isinstance(claims["sid"], str):
            raise InvalidToken
        return AccessClaims(claims["sub"], claims["sid"])


def create_refresh_token() -> str:
    """256 random bits: the token holds no data, only the store knows its login."""
    return secrets.token_urlsafe(32)


def hash_refresh_token(refresh_token: str) -> str:
    """The hash for the store. A random token needs no salt and no slow hash."""
    return hashlib.sha256(refresh_token.encode()).hexdigest()
