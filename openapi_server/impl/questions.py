"""From a request to what the engine is asked: the question, its idempotency keys, and a place in a stream."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import timedelta
from typing import Any

from openapi_server.animals import Animal
from openapi_server.engine.pipeline import Question
from openapi_server.errors import AnimalNotFound, FieldError, InvalidInput
from openapi_server.http.bridge import Call
from openapi_server.http.visitors import Visitor
from openapi_server.records import IdempotencyKey
from openapi_server.turn import AgeGroup
from openapi_server.wire.sse import sequence_of

MAX_METADATA_BYTES = 4096


def question_of(call: Call, body: dict[str, Any], visitor: Visitor) -> Question:
    """What the visitor asks, of an animal that lives here."""
    return Question(
        animal=_animal(call, body["animalId"]),
        message=body["message"],
        age_group=AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)),
        session_id=body.get("sessionId"),
        owner=visitor.owner,
        context_summary=body.get("contextSummary"),
        metadata=_metadata(body.get("metadata")),
        is_cancelled_on_disconnect=body.get("onDisconnect") == "cancel",
    )


def idempotency_keys(call: Call, body: dict[str, Any], visitor: Visitor) -> tuple[IdempotencyKey, ...]:
    """The request's Idempotency-Key, once for each name that its repetition may come under.

    A key is the client's own, so it only counts within its owner: the session cookie. A first request has none yet, and
    its repetition may come with the cookie that it was given or without; so the key also counts under what there was
    before: by itself when it is a UUID, which nobody else has, else within the caller's address.
    """
    given = call.headers.get("idempotency-key")
    if given is None:
        return ()
    scopes = [visitor.owner] + ([_scope_without_cookie(call, given)] if visitor.is_new else [])
    body_hash = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    expires_at = call.services.clock.now() + timedelta(seconds=call.services.settings.idempotency_ttl_s)
    return tuple(
        IdempotencyKey(hashlib.sha256(f"{scope}\n{given}".encode()).hexdigest(), body_hash, expires_at)
        for scope in scopes
    )


def place_after(turn_id: str, last_seen: str | None) -> int:
    """The place in the turn's log after which to read: an event id of this turn, or only its number."""
    if last_seen is None:
        return 0
    place = int(last_seen) if re.fullmatch(r"[0-9]{1,9}", last_seen, re.ASCII) else sequence_of(last_seen, turn_id)
    if place is None:
        message = "is not the id of an event of this turn"
        raise InvalidInput(f"Last-Event-ID {message}.", errors=(FieldError("Last-Event-ID", message),))
    return place


def _scope_without_cookie(call: Call, key: str) -> str:
    try:
        return f"uuid:{uuid.UUID(key)}"
    except ValueError:
        return f"address:{call.address}"


def _animal(call: Call, animal_id: str) -> Animal:
    animal = call.services.knowledge.animal(animal_id)
    if animal is None or animal.status != "active":
        raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
    return animal


def _metadata(given: dict[str, Any] | None) -> str | None:
    if given is None:
        return None
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_METADATA_BYTES:
        message = f"must be at most {MAX_METADATA_BYTES} bytes of JSON"
        raise InvalidInput(f"metadata: {message}", errors=(FieldError("metadata", message),))
    return text
