"""The credits of a user: allocation, balance, whether it is enough, and what was used."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import authorize_account, require_user
from openapi_server.http.idempotency import idempotent, make_request_key
from openapi_server.models.audit import AuditAction
from openapi_server.models.credits import Allocation, Balance
from openapi_server.models.errors import InvalidInput, UserNotFound
from openapi_server.wire.sessions import encode_usage
from openapi_server.wire.timestamps import format_timestamp

DEFAULT_DAYS = 30
MAX_DAYS = 366


@async_handler
@idempotent(subject="userId")
async def allocate_credits(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    at = context.services.clock.now()
    expires_at = at + timedelta(days=body["expiryDays"]) if "expiryDays" in body else None
    allocation = Allocation(body["userId"], body["credits"], at, expires_at, body.get("notes"))
    entry = await context.services.credits.allocate_credits(
        allocation, make_request_key(context, "allocate_credits", {"body": body})
    )
    await record_audit(context, AuditAction.CREDITS_GRANTED, entry.username)
    result = {
        "allocationId": entry.entry_id,
        "userId": entry.username,
        "credits": entry.credits,
        "createdAt": format_timestamp(entry.at),
        "expiresAt": format_timestamp(expires_at) if expires_at else None,
    }
    return JSONResponse(result | ({"notes": entry.notes} if entry.notes is not None else {}), 201)


@async_handler
async def get_credit_balance(context: RequestContext, user_id: str | None = None) -> ASGIApp:
    balance = await _get_balance(context, authorize_account(context, user_id or require_user(context).username))
    expires_at = format_timestamp(balance.expires_at) if balance.expires_at else None
    body = {
        "userId": balance.username,
        "credits": balance.credits,
        "totalCredits": balance.credits,
        "expiresAt": expires_at,
    }
    return JSONResponse(body)


@async_handler
async def check_credits(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    balance = await _get_balance(context, require_user(context).username)
    return JSONResponse({"sufficient": balance.credits >= body["credits"], "totalCredits": balance.credits})


@async_handler
async def get_usage_stats(
    context: RequestContext, user_id: str | None = None, from_: str | None = None, to: str | None = None
) -> ASGIApp:
    username = authorize_account(context, user_id or require_user(context).username)
    first, last = _choose_days(context, from_, to)
    # Raises for an account that does not exist, which only an administrator may ask for.
    await _get_balance(context, username)
    days = await context.services.credits.list_daily_usage(username, first, last)
    body = {"userId": username, "from": first.isoformat(), "to": last.isoformat(), **encode_usage(days)}
    return JSONResponse(body)


def _choose_days(context: RequestContext, first: str | None, last: str | None) -> tuple[date, date]:
    """The first and the last day that the request asks for. Raises `InvalidInput`."""
    to = _parse_day("to", last) if last else context.services.clock.now().astimezone(UTC).date()
    default = date.fromordinal(max(1, to.toordinal() - DEFAULT_DAYS + 1))
    since = _parse_day("from", first) if first else default
    if not 0 <= (to - since).days < MAX_DAYS:
        raise InvalidInput.for_field("from", f"must be a day up to {MAX_DAYS} days before the last one")
    return since, to


def _parse_day(field: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput.for_field(field, "is no day of the calendar") from None


async def _get_balance(context: RequestContext, username: str) -> Balance:
    balance = await context.services.credits.get_balance(username)
    if balance is None:
        raise UserNotFound
    return balance
