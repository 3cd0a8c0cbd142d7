"""From a request to what the engine is asked: the animal, and the request's idempotency keys."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.identity import Identity, get_anonymous_scope, get_name_scope
from openapi_server.models.animal import Animal
from openapi_server.models.errors import AnimalNotFound
from openapi_server.models.turn import IdempotencyKey


async def get_active_animal(context: RequestContext, animal_id: str) -> Animal:
    """An animal that lives here and may be asked, as its keepers last wrote it, else `AnimalNotFound`."""
    await context.services.knowledge.refresh()
    animal = context.services.knowledge.get_animal(animal_id)
    if animal is None:
        raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
    if animal.status != "active":
        raise AnimalNotFound(f"{animal.name} has retired. GET /animal_list?status=active shows who talks.")
    return animal


def make_idempotency_keys(
    context: RequestContext, body: dict[str, Any], visitor: Identity | None = None
) -> tuple[IdempotencyKey, ...]:
    """The request's Idempotency-Key, once for each name that its repetition may come under.

    A key is the client's own, so it only counts within its owner: the account, or the session cookie. A first request
    has none yet, and its repetition may come with the cookie that it was given or without; so the key also counts
    under what there was before: by itself when it is a UUID, which nobody else has, else within the caller's address.
    """
    given = context.headers.get("idempotency-key")
    if given is None:
        return ()
    scopes = [visitor.owner] if visitor else [get_name_scope(context, given)]
    if visitor is not None and visitor.is_new:
        scopes.append(get_anonymous_scope(context, given))
    body_hash = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    expires_at = context.services.clock.now() + timedelta(seconds=context.services.settings.idempotency_ttl_s)
    return tuple(
        IdempotencyKey(hashlib.sha256(f"{scope}\n{given}".encode()).hexdigest(), body_hash, expires_at)
        for scope in scopes
    )
