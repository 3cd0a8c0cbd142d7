"""Auditing: what a caller does with somebody's things is noted, in one call where it happens."""

from __future__ import annotations

import structlog

from openapi_server.http.async_handlers import Call
from openapi_server.http.identity import known_owner
from openapi_server.models.audit import Actor, AuditEntry, Deed, mark_of
from openapi_server.models.errors import StoreUnavailable

VISITOR = "visitor"

log = structlog.get_logger(__name__)


async def noted(call: Call, deed: Deed, about: str | None = None, actor: Actor | None = None) -> None:
    """Keep that the caller, or the actor, did it. `about`: a username or a mark, never a whole id.

    It is done already: a trail that cannot be written to is the operator's trouble, not the caller's.
    """
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    entry = AuditEntry(call.services.clock.now(), deed, actor or actor_of(call), about, request_id)
    try:
        await call.services.audit.note(entry)
    except StoreUnavailable:
        log.error("deed_not_noted", deed=deed.value)


def actor_of(call: Call) -> Actor:
    """The logged-in person; else a visitor, by part of the hash of their cookie."""
    if call.person is not None:
        return Actor(call.person.role, call.person.username)
    owner = known_owner(call)
    return Actor(VISITOR, mark_of(owner) if owner else None)
