"""Accounts: logging in and out, and who one is."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.accounts.accounts import TokenGrant
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.models.audit import Actor, AuditAction
from openapi_server.models.errors import BadCredentials
from openapi_server.models.user import AuthenticatedUser


@async_handler
async def login(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    try:
        granted = await context.services.accounts.login(body["username"], body["password"])
    except BadCredentials:
        await record_audit(context, AuditAction.LOGIN_REFUSED, await _find_known_name(context, body["username"]))
        raise
    await record_audit(context, AuditAction.LOGIN, granted.username, Actor(granted.role, granted.username))
    return _token_response(granted)


@async_handler
async def refresh_login(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return _token_response(await context.services.accounts.refresh(body["refreshToken"]))


@async_handler
async def logout(context: RequestContext) -> ASGIApp:
    await context.services.accounts.logout(get_caller(context))
    return Response(status_code=204)


@async_handler
async def me(context: RequestContext) -> ASGIApp:
    person = get_caller(context)
    body = {"username": person.username, "role": person.role, "children": list(person.children)}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def get_caller(context: RequestContext) -> AuthenticatedUser:
    """Who is calling an operation that requires a login: the gate has let nobody else through."""
    assert context.user is not None  # noqa: S101  # see `security` of the operation in openapi.yaml
    return context.user


async def _find_known_name(context: RequestContext, username: str) -> str | None:
    """Only a name that somebody has is noted: people type their passwords into the wrong field."""
    return username if await context.services.accounts.has_user(username) else None


def _token_response(granted: TokenGrant) -> ASGIApp:
    body = {
        "accessToken": granted.access_token,
        "refreshToken": granted.refresh_token,
        "tokenType": "Bearer",
        "expiresIn": granted.expires_in_s,
        "user": {"username": granted.username, "role": granted.role},
    }
    # RFC 6749, section 5.1: no cache may keep a token.
    return JSONResponse(body, headers={"Cache-Control": "no-store"})
