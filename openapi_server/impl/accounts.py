"""Accounts: logging in and out, and who one is."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.accounts.accounts import Granted
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.models.audit import Actor, Deed
from openapi_server.models.errors import BadCredentials
from openapi_server.models.user import Person


@on_loop
async def login(call: Call, body: dict[str, Any]) -> ASGIApp:
    try:
        granted = await call.services.accounts.login(body["username"], body["password"])
    except BadCredentials:
        await noted(call, Deed.LOGIN_REFUSED, await _known_name(call, body["username"]))
        raise
    await noted(call, Deed.LOGIN, granted.username, Actor(granted.role, granted.username))
    return _granted(granted)


@on_loop
async def refresh_login(call: Call, body: dict[str, Any]) -> ASGIApp:
    return _granted(await call.services.accounts.refresh(body["refreshToken"]))


@on_loop
async def logout(call: Call) -> ASGIApp:
    await call.services.accounts.logout(caller(call))
    return Response(status_code=204)


@on_loop
async def me(call: Call) -> ASGIApp:
    person = caller(call)
    body = {"username": person.username, "role": person.role, "children": list(person.children)}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def caller(call: Call) -> Person:
    """Who is calling an operation that requires a login: the gate has let nobody else through."""
    assert call.person is not None  # noqa: S101  # see `security` of the operation in openapi.yaml
    return call.person


async def _known_name(call: Call, username: str) -> str | None:
    """Only a name that somebody has is noted: people type their passwords into the wrong field."""
    return username if await call.services.accounts.is_known(username) else None


def _granted(granted: Granted) -> ASGIApp:
    body = {
        "accessToken": granted.access_token,
        "refreshToken": granted.refresh_token,
        "tokenType": "Bearer",
        "expiresIn": granted.expires_in_s,
        "user": {"username": granted.username, "role": granted.role},
    }
    # RFC 6749, section 5.1: no cache may keep a token.
    return JSONResponse(body, headers={"Cache-Control": "no-store"})
