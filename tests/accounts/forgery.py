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
OMITTED = object()
DEEPLY_NESTED = b'{"alg":' + b"[" * 2500
LONG_NUMBER = b'{"alg":' + b"9" * 5000


def make_claims(login: Login, now: datetime) -> dict[str, Any]:
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


def sign_token(
    claims: Mapping[str, Any],
    header: Mapping[str, Any] | None = None,
    *,
    key: str = DEVELOPMENT_KEY,
    digest: str = "sha256",
    **changed: Any,
) -> str:
    """A token signed with `key`, byte by byte, for no library makes all of these. `OMITTED` leaves a claim out."""
    told = {name: value for name, value in {**claims, **changed}.items() if value is not OMITTED}
    head = header if header is not None else {"alg": "HS256", "typ": "at+jwt"}
    signed = f"{_encode_part(json.dumps(head).encode())}.{_encode_part(json.dumps(told).encode())}"
    return f"{signed}.{_encode_part(hmac.digest(key.encode(), signed.encode(), digest))}"


def forge_tokens(login: Login, now: datetime) -> dict[str, str]:
    """Every one must be refused, though all else about it is right."""
    good = make_claims(login, now)
    now_s = good["iat"]
    head, claims, signature = sign_token(good).split(".")
    unsigned = f"{_encode_part(json.dumps({'alg': 'none', 'typ': 'at+jwt'}).encode())}.{claims}."
    typ = {"typ": "at+jwt"}
    return {
        "alg none": unsigned,
        "alg none, signed": unsigned + signature,
        "alg nOnE": f"{_encode_part(json.dumps({'alg': 'nOnE', 'typ': 'at+jwt'}).encode())}.{claims}.",
        "no alg": sign_token(good, typ),
        "alg is a list": sign_token(good, {"alg": ["HS256"], **typ}),
        "RS256 in the header, HMAC of the public key": sign_token(good, {"alg": "RS256", **typ}, key=PUBLIC_KEY),
        "HS256 with the public key": sign_token(good, key=PUBLIC_KEY),
        "HS512 with our own key": sign_token(good, {"alg": "HS512", **typ}, digest="sha512"),
        "another key": sign_token(good, key="x" * 32),
        "an empty key": sign_token(good, key=""),
        "signature cut off": f"{head}.{claims}.",
        "signature cut short": f"{head}.{claims}.{signature[:-4]}",
        "claims of another": f"{head}.{_encode_part(json.dumps({**good, 'sub': 'admin'}).encode())}.{signature}",
        "another issuer": sign_token(good, iss="evil.example"),
        "no issuer": sign_token(good, iss=OMITTED),
        "another audience": sign_token(good, aud="another service"),
        "no audience": sign_token(good, aud=OMITTED),
        "typ JWT": sign_token(good, {"alg": "HS256", "typ": "JWT"}),
        "typ of an ID token": sign_token(good, {"alg": "HS256", "typ": "id+jwt"}),
        "no typ": sign_token(good, {"alg": "HS256"}),
        "no exp": sign_token(good, exp=OMITTED),
        "exp is null": sign_token(good, exp=None),
        "exp is a text": sign_token(good, exp="never"),
        "exp is infinite": sign_token(good, exp=float("inf")),
        "expired this second": sign_token(good, exp=now_s),
        "expired long ago": sign_token(good, exp=now_s - 100_000),
        "not yet": sign_token(good, nbf=now_s + 1),
        "nbf is a text": sign_token(good, nbf="later"),
        "no iat": sign_token(good, iat=OMITTED),
        "no sub": sign_token(good, sub=OMITTED),
        "sub is a number": sign_token(good, sub=1),
        "no jti": sign_token(good, jti=OMITTED),
        "no sid": sign_token(good, sid=OMITTED),
        "sid is a list": sign_token(good, sid=[login.login_id]),
        "sid of nobody": sign_token(good, sid="login_of_nobody"),
        "sub of another": sign_token(good, sub="admin"),
        "kid climbs": sign_token(good, {"alg": "HS256", **typ, "kid": "../../../../dev/null"}, key=""),
        "kid climbs, signed by us": sign_token(good, {"alg": "HS256", **typ, "kid": "../../etc/passwd"}),
        "kid injects": sign_token(good, {"alg": "HS256", **typ, "kid": "' UNION SELECT 'x' --"}, key="x"),
        "jwk of the attacker's": sign_token(good, {"alg": "HS256", **typ, "jwk": {"kty": "oct", "k": "eA"}}, key="x"),
        "jku of the attacker's": sign_token(good, {"alg": "HS256", **typ, "jku": "http://evil.example/k"}, key="x"),
        "unknown crit": sign_token(good, {"alg": "HS256", **typ, "crit": ["exp"]}),
        "a header that breaks the reader": f"{_encode_part(DEEPLY_NESTED)}.{claims}.{signature}",
        "a header with a long number": f"{_encode_part(LONG_NUMBER)}.{claims}.{signature}",
        "a header that is a list": f"{_encode_part(b'[]')}.{claims}.{signature}",
        "four parts": f"{head}.{claims}.{signature}.{signature}",
        "one part": "token",
        "no base64": "a.b.c",
        "five parts, as if encrypted": "a.b.c.d.e",
    }


def _encode_part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
