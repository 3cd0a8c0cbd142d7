"""The audit trail: records who did what to whose data."""

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
    """Record an action of the caller, or of the actor. `target` is a username or a shortened id, never a whole id.

    The action has been done already, so an audit trail that cannot be written to is logged and does not fail the
    request.
    """
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    entry = AuditEntry(context.services.clock.now(), action, actor or get_actor(context), target, request_id)
    try:
        await context.services.audit.record(entry)
    except StoreUnavailable:
        log.error("audit_entry_not_stored", action=action.value)


def get_actor(context: RequestContext) -> Actor:
    """The logged-in user; else a visitor, named by part of the hash of their cookie."""
    if context.user is not None:
        return Actor(context.user.role, context.user.username)
    owner = find_owner(context)
    return Actor(VISITOR_ROLE, shorten_owner(owner) if owner else None)
