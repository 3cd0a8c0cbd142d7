"""Tokens as an attacker makes them, each with the one thing that is wrong with it."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openapi_server.config import DEVELOPMENT_KEY
from openapi_server.models.user import Login

# Anybody may know this one; where a server takes it for an HMAC key, anybody can sign.
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
GONE = object()
DEEP = b'{"alg":' + b"[" * 2500
LONG = b'{"alg":' + b"9" * 5000


def good_claims(login: Login, now: datetime) -> dict[str, Any]:
    now_s = int(now.timestamp())
    return {
        "iss": "zoochat",
        "aud": "zoochat",
        "sub": login.username,
        "sid": login.login_id,
        "jti": "1",
        "iat": now_s,
        "exp": now_s + 900,
    }


def made(
    claims: Mapping[str, Any],
    header: Mapping[str, Any] | None = None,
    *,
    key: str = DEVELOPMENT_KEY,
    digest: str = "sha256",
    **changed: Any,
) -> str:
    """A token signed with `key`, byte by byte, for no library makes all of these. `GONE` leaves a claim out."""
    told = {name: value for name, value in {**claims, **changed}.items() if value is not GONE}
    head = header if header is not None else {"alg": "HS256", "typ": "at+jwt"}
    signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(told).encode())}"
    return f"{signed}.{_part(hmac.digest(key.encode(), signed.encode(), digest))}"


def attacks(login: Login, now: datetime) -> dict[str, str]:
    """Every one must be refused, though all else about it is right."""
    good = good_claims(login, now)
    now_s = good["iat"]
    head, claims, signature = made(good).split(".")
    unsigned = f"{_part(json.dumps({'alg': 'none', 'typ': 'at+jwt'}).encode())}.{claims}."
    typ = {"typ": "at+jwt"}
    return {
        "alg none": unsigned,
        "alg none, signed": unsigned + signature,
        "alg nOnE": f"{_part(json.dumps({'alg': 'nOnE', 'typ': 'at+jwt'}).encode())}.{claims}.",
        "no alg": made(good, typ),
        "alg is a list": made(good, {"alg": ["HS256"], **typ}),
        "RS256 in the header, HMAC of the public key": made(good, {"alg": "RS256", **typ}, key=PUBLIC_KEY),
        "HS256 with the public key": made(good, key=PUBLIC_KEY),
        "HS512 with our own key": made(good, {"alg": "HS512", **typ}, digest="sha512"),
        "another key": made(good, key="x" * 32),
        "an empty key": made(good, key=""),
        "signature cut off": f"{head}.{claims}.",
        "signature cut short": f"{head}.{claims}.{signature[:-4]}",
        "claims of another": f"{head}.{_part(json.dumps({**good, 'sub': 'admin'}).encode())}.{signature}",
        "another issuer": made(good, iss="evil.example"),
        "no issuer": made(good, iss=GONE),
        "another audience": made(good, aud="another service"),
        "no audience": made(good, aud=GONE),
        "typ JWT": made(good, {"alg": "HS256", "typ": "JWT"}),
        "typ of an ID token": made(good, {"alg": "HS256", "typ": "id+jwt"}),
        "no typ": made(good, {"alg": "HS256"}),
        "no exp": made(good, exp=GONE),
        "exp is null": made(good, exp=None),
        "exp is a text": made(good, exp="never"),
        "exp is infinite": made(good, exp=float("inf")),
        "expired this second": made(good, exp=now_s),
        "expired long ago": made(good, exp=now_s - 100_000),
        "not yet": made(good, nbf=now_s + 1),
        "nbf is a text": made(good, nbf="later"),
        "no iat": made(good, iat=GONE),
        "no sub": made(good, sub=GONE),
        "sub is a number": made(good, sub=1),
        "no jti": made(good, jti=GONE),
        "no sid": made(good, sid=GONE),
        "sid is a list": made(good, sid=[login.login_id]),
        "sid of nobody": made(good, sid="login_of_nobody"),
        "sub of another": made(good, sub="admin"),
        "kid climbs": made(good, {"alg": "HS256", **typ, "kid": "../../../../dev/null"}, key=""),
        "kid climbs, signed by us": made(good, {"alg": "HS256", **typ, "kid": "../../etc/passwd"}),
        "kid injects": made(good, {"alg": "HS256", **typ, "kid": "' UNION SELECT 'x' --"}, key="x"),
        "jwk of the attacker's": made(good, {"alg": "HS256", **typ, "jwk": {"kty": "oct", "k": "eA"}}, key="x"),
        "jku of the attacker's": made(good, {"alg": "HS256", **typ, "jku": "http://evil.example/k"}, key="x"),
        "unknown crit": made(good, {"alg": "HS256", **typ, "crit": ["exp"]}),
        "a header that breaks the reader": f"{_part(DEEP)}.{claims}.{signature}",
        "a header with a long number": f"{_part(LONG)}.{claims}.{signature}",
        "a header that is a list": f"{_part(b'[]')}.{claims}.{signature}",
        "four parts": f"{head}.{claims}.{signature}.{signature}",
        "one part": "token",
        "no base64": "a.b.c",
        "five parts, as if encrypted": "a.b.c.d.e",
    }


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
