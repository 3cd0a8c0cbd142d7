"""Login, logout, refreshed tokens, and the logged-in user."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.accounts.login_protection import LoginClient
from openapi_server.accounts.logins import TokenGrant
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authentication import read_bearer_token
from openapi_server.http.authorization import require_user
from openapi_server.http.client_addresses import group_address
from openapi_server.http.disconnect import AwaitedResponse
from openapi_server.http.identity import LOGIN_DEVICE_COOKIE, build_cookie
from openapi_server.models.audit import Actor, AuditAction
from openapi_server.models.errors import BadCredentials, LoginRequired


@async_handler
async def login(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    # A password takes 60 ms to check. When the client has left, it is not checked.
    return AwaitedResponse(partial(_log_in, context, body["username"], body["password"]))


@async_handler
async def refresh_login(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return _make_token_response(await context.services.accounts.refresh(body["refreshToken"]))


@async_handler
async def logout(context: RequestContext, body: dict[str, Any] | None = None) -> ASGIApp:
    access_token, refresh_token = read_bearer_token(context.headers), (body or {}).get("refreshToken")
    if access_token is None and refresh_token is None:
        raise LoginRequired("Send the access token as Authorization: Bearer, or the refresh token in the body.")
    await context.services.accounts.logout(access_token, refresh_token)
    return Response(status_code=204)


@async_handler
async def get_current_user(context: RequestContext) -> ASGIApp:
    user = require_user(context)
    body = {"username": user.username, "role": user.role, "children": list(user.children)}
    return JSONResponse(body)


async def _log_in(context: RequestContext, username: str, password: str) -> ASGIApp:
    client = LoginClient(group_address(context.client_address), context.cookies.get(LOGIN_DEVICE_COOKIE, ""))
    try:
        grant = await context.services.accounts.login(username, password, client)
    except BadCredentials:
        await record_audit(context, AuditAction.LOGIN_REFUSED, await _find_known_name(context, username))
        raise
    await record_audit(context, AuditAction.LOGIN, grant.username, Actor(grant.role, grant.username))
    return _make_token_response(grant, {"Set-Cookie": build_cookie(context, LOGIN_DEVICE_COOKIE, grant.device_cookie)})


async def _find_known_name(context: RequestContext, username: str) -> str | None:
    """The name, if there is such an account. Others are not recorded: people type passwords into this field."""
    return username if await context.services.accounts.has_user(username) else None


def _make_token_response(grant: TokenGrant, headers: Mapping[str, str] | None = None) -> ASGIApp:
    body = {
        "accessToken": grant.access_token,
        "refreshToken": grant.refresh_token,
        "tokenType": "Bearer",
        "expiresIn": grant.expires_in_s,
        "user": {"username": grant.username, "role": grant.role},
    }
    return JSONResponse(body, headers=headers)
