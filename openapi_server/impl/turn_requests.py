"""What handlers of several contracts do with a request before they answer it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import OnBusy, TurnRequest
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.audit import record_audit
from openapi_server.http.identity import Identity, is_unguessable, make_session_token
from openapi_server.models.animal import Animal
from openapi_server.models.audit import AuditAction
from openapi_server.models.errors import AnimalNotFound, SessionNotFound, StoreUnavailable
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn import IdempotencyKey
from openapi_server.models.user import USER_PREFIX
from openapi_server.worker_threads import run_by_size


async def get_active_animal(context: RequestContext, animal_id: str) -> Animal:
    """The animal in the current version of its document; `AnimalNotFound` when it does not exist or is retired."""
    await context.services.knowledge.refresh()
    animal = context.services.knowledge.get_animal(animal_id)
    if animal is None:
        raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
    if animal.status != "active":
        raise AnimalNotFound(f"{animal.name} has retired. GET /animal_list?status=active shows who talks.")
    return animal


async def mask_text(context: RequestContext, text: str) -> str:
    """The text as it is stored: without personal data, and without the blanks around it."""
    return await run_by_size(len(text), partial(context.services.moderator.mask_pii, text.strip()))


def choose_on_busy(body: dict[str, Any], default: OnBusy) -> OnBusy:
    """What the request wants to happen while its session has another turn; `default` where it does not say."""
    return OnBusy(body.get("onBusy") or default)


def make_idempotency_keys(
    context: RequestContext,
    body: dict[str, Any],
    identity: Identity,
    scopes: Sequence[str] = (),
    within: str = "",
    query_key: str | None = None,
) -> tuple[IdempotencyKey, ...]:
    """The request's `Idempotency-Key`, else `query_key`, once for each scope in which its repetition may arrive.

    A key is chosen by the client, so it is valid within its owner only: the account, or the cookie. The first request
    of a visitor has no cookie yet, and its repetition may come with the cookie that was set or without it. So that key
    is also valid by itself when it is a UUID, which nobody else has, and in the further `scopes`. Any other key of a
    caller without a cookie is not: two visitors behind one address must not get each other's answers. `within` is part
    of what the key stands for, such as the device.
    """
    value = context.headers.get("idempotency-key", query_key)
    if value is None:
        return ()
    all_scopes = [identity.owner, *scopes]
    if identity.is_new and is_unguessable(value):
        all_scopes.append("uuid")
    body_hash = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    expires_at = context.services.clock.now() + timedelta(seconds=context.services.settings.idempotency_ttl_s)
    return tuple(
        IdempotencyKey(hashlib.sha256(f"{scope}\n{within}\n{value}".encode()).hexdigest(), body_hash, expires_at)
        for scope in all_scopes
    )


def make_session_headers(context: RequestContext, accepted: AcceptedTurn, identity: Identity) -> dict[str, str]:
    """The headers of the answer that begins a turn: the new visitor's cookie, and the token of a session that is new.

    An account's session has no token: it would outlive the logout.
    """
    headers = identity.headers
    if accepted.is_first and not identity.owner.startswith(USER_PREFIX):
        headers["X-Session-Token"] = make_session_token(context, accepted.session_id)
    return headers


async def start_turn(
    context: RequestContext, request: TurnRequest, keys: Sequence[IdempotencyKey] = ()
) -> AcceptedTurn:
    """`TurnEngine.start_turn`, within the caller's rate limit, and in the order of arrival. Raises also `RateLimited`.

    A request with an idempotency key counts only when it starts a turn, so that no repetition is refused its reply.
    The turn counts as an open stream until it has ended, whether anybody waits for it or not.
    """
    admission = context.admission
    if admission is not None and not admission.is_counted_as_turn and not await _is_repeat(context, keys):
        await admission.count_turn()
    async with context.arrival.run_in_order(request.session.session_id) if context.arrival else nullcontext():
        accepted = await context.services.engine.start_turn(request, keys)
    if admission is not None and accepted.is_new:
        context.services.engine.call_at_end(accepted.turn_id, admission.keep_open())
    return accepted


async def _is_repeat(context: RequestContext, keys: Sequence[IdempotencyKey]) -> bool:
    try:
        return bool(keys) and await context.services.store.has_turn(keys)
    except StoreUnavailable:
        return False


async def delete_session(context: RequestContext, session_id: str) -> None:
    """Delete the session with all its turns, running ones included, and record it in the audit trail."""
    turn_ids = await context.services.store.delete_session(session_id)
    if turn_ids is None:
        raise SessionNotFound
    await context.services.engine.delete_turns(turn_ids)
    await record_audit(context, AuditAction.SESSION_DELETED, shorten_id(session_id))
