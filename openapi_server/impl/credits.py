"""Credits: what a user may spend, and who gives it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.impl.accounts import get_caller
from openapi_server.models.audit import AuditAction
from openapi_server.models.credits import Allocation
from openapi_server.models.errors import UserNotFound
from openapi_server.models.user import AuthenticatedUser, Role
from openapi_server.wire.timestamps import format_timestamp


@async_handler
async def allocate_credits(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    at = context.services.clock.now()
    expires_at = at + timedelta(days=body["expiryDays"]) if "expiryDays" in body else None
    allocation = Allocation(body["userId"], body["credits"], at, expires_at, body.get("notes"))
    entry = await context.services.credits.allocate_credits(allocation)
    await record_audit(context, AuditAction.CREDITS_GRANTED, entry.username)
    allocated = {
        "allocationId": entry.entry_id,
        "userId": entry.username,
        "credits": entry.credits,
        "createdAt": format_timestamp(entry.at),
        "expiresAt": format_timestamp(expires_at) if expires_at else None,
    }
    return JSONResponse(allocated | ({"notes": entry.notes} if entry.notes is not None else {}), 201)


@async_handler
async def credit_balance(context: RequestContext, user_id: str | None = None) -> ASGIApp:
    balance = await context.services.credits.get_balance(_whose(get_caller(context), user_id))
    if balance is None:
        raise UserNotFound
    expires_at = format_timestamp(balance.expires_at) if balance.expires_at else None
    body = {"userId": balance.username, "credits": balance.credits, "expiresAt": expires_at}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _whose(person: AuthenticatedUser, user_id: str | None) -> str:
    """One's own, a child's, or anybody's for an administrator; all others are as good as not there."""
    if user_id in (None, person.username):
        return person.username
    if user_id is None or not (user_id in person.children or person.may_act_as(Role.ADMINISTRATOR)):
        raise UserNotFound
    return user_id
