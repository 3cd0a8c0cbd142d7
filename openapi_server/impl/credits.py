"""Credits: what a user may spend, and who gives it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.impl.accounts import caller
from openapi_server.models.audit import Deed
from openapi_server.models.credits import Allocation
from openapi_server.models.errors import UserNotFound
from openapi_server.models.user import Person, Role
from openapi_server.wire.timestamps import iso_millis


@on_loop
async def allocate_credits(call: Call, body: dict[str, Any]) -> ASGIApp:
    at = call.services.clock.now()
    expires_at = at + timedelta(days=body["expiryDays"]) if "expiryDays" in body else None
    allocation = Allocation(body["userId"], body["credits"], at, expires_at, body.get("notes"))
    entry = await call.services.credits.allocate(allocation)
    await noted(call, Deed.CREDITS_GRANTED, entry.username)
    allocated = {
        "allocationId": entry.entry_id,
        "userId": entry.username,
        "credits": entry.credits,
        "createdAt": iso_millis(entry.at),
        "expiresAt": iso_millis(expires_at) if expires_at else None,
    }
    return JSONResponse(allocated | ({"notes": entry.notes} if entry.notes is not None else {}), 201)


@on_loop
async def credit_balance(call: Call, user_id: str | None = None) -> ASGIApp:
    balance = await call.services.credits.balance(_whose(caller(call), user_id))
    if balance is None:
        raise UserNotFound
    expires_at = iso_millis(balance.expires_at) if balance.expires_at else None
    body = {"userId": balance.username, "credits": balance.credits, "expiresAt": expires_at}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _whose(person: Person, user_id: str | None) -> str:
    """One's own, a child's, or anybody's for an administrator; all others are as good as not there."""
    if user_id in (None, person.username):
        return person.username
    if user_id is None or not (user_id in person.children or person.may_act_as(Role.ADMINISTRATOR)):
        raise UserNotFound
    return user_id
