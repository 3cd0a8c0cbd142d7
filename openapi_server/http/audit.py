"""Auditing: what a caller does with somebody's things is noted, in one call where it happens."""

from __future__ import annotations

import structlog

from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.identity import find_owner
from openapi_server.models.audit import Actor, AuditAction, AuditEntry, shorten_owner
from openapi_server.models.errors import StoreUnavailable

VISITOR_ROLE = "visitor"

log = structlog.get_logger(__name__)


async def record_audit(
    context: RequestContext, action: AuditAction, target: str | None = None, actor: Actor | None = None
) -> None:
    """Keep that the caller, or the actor, did it. `about`: a username or a mark, never a whole id.

    It is done already: a trail that cannot be written to is the operator's trouble, not the caller's.
    """
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    entry = AuditEntry(context.services.clock.now(), action, actor or get_actor(context), target, request_id)
    try:
        await context.services.audit.record(entry)
    except StoreUnavailable:
        log.error("deed_not_noted", deed=action.value)


def get_actor(context: RequestContext) -> Actor:
    """The logged-in person; else a visitor, by part of the hash of their cookie."""
    if context.user is not None:
        return Actor(context.user.role, context.user.username)
    owner = find_owner(context)
    return Actor(VISITOR_ROLE, shorten_owner(owner) if owner else None)
