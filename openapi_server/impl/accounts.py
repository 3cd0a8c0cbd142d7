"""Login, logout, refreshed tokens, and the logged-in user."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.accounts.service import TokenGrant
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import require_user
from openapi_server.models.audit import Actor, AuditAction
from openapi_server.models.errors import BadCredentials


@async_handler
async def login(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    try:
        grant = await context.services.accounts.login(body["username"], body["password"])
    except BadCredentials:
        await record_audit(context, AuditAction.LOGIN_REFUSED, await _find_known_name(context, body["username"]))
        raise
    await record_audit(context, AuditAction.LOGIN, grant.username, Actor(grant.role, grant.username))
    return _token_response(grant)


@async_handler
async def refresh_login(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return _token_response(await context.services.accounts.refresh(body["refreshToken"]))


@async_handler
async def logout(context: RequestContext) -> ASGIApp:
    await context.services.accounts.logout(require_user(context))
    return Response(status_code=204)


@async_handler
async def me(context: RequestContext) -> ASGIApp:
    user = require_user(context)
    body = {"username": user.username, "role": user.role, "children": list(user.children)}
    return JSONResponse(body)


async def _find_known_name(context: RequestContext, username: str) -> str | None:
    """The name, if there is such an account. Others are not recorded: people type passwords into this field."""
    return username if await context.services.accounts.has_user(username) else None


def _token_response(grant: TokenGrant) -> ASGIApp:
    body = {
        "accessToken": grant.access_token,
        "refreshToken": grant.refresh_token,
        "tokenType": "Bearer",
        "expiresIn": grant.expires_in_s,
        "user": {"username": grant.username, "role": grant.role},
    }
    # RFC 6749, section 5.1: no cache may keep a token.
    return JSONResponse(body)
