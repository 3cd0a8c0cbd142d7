"""The chat sessions' contract: sessions of logged-in users, streams that cost credits, and their confirmation."""

from __future__ import annotations

import hmac
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_request import Place, Question
from openapi_server.engine.turn_start import new_id
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.authorization import Doing, session_for
from openapi_server.http.identity import identify
from openapi_server.impl.history import delete_session
from openapi_server.impl.turn_requests import animal_named, idempotency_keys
from openapi_server.impl.turn_responses import is_in, resumed, streamed
from openapi_server.models.credits import Charge
from openapi_server.models.errors import FieldError, InvalidInput, SessionStreaming, StreamMismatch, TurnRunning
from openapi_server.models.session import SessionRecord
from openapi_server.wire.sessions import (
    SESSIONS,
    confirmed_object,
    created_object,
    details_object,
    model_object,
    session_object,
)

TITLE_LENGTH = 60


@on_loop
async def list_models(call: Call) -> ASGIApp:
    models, price = call.services.provider.models(), call.services.settings.credits_per_token
    return JSONResponse({"models": [model_object(model, price) for model in models]})


@on_loop
async def create_chat_session(call: Call, body: dict[str, Any]) -> ASGIApp:
    _require_known_model(call, body)
    animal = await animal_named(call, body.get("animalId", call.services.settings.default_animal))
    masked = call.services.moderator.masked
    opening = masked(body["initialMessage"]) if "initialMessage" in body else None
    now = call.services.clock.now()
    session = SessionRecord(
        session_id=new_id("sess"),
        animal_id=animal.animal_id,
        owner=identify(call).owner,
        created_at=now,
        last_message_at=now,
        ttl_s=call.services.settings.session_ttl_s,
        title=masked(body.get("title", "")) or (opening or "").strip()[:TITLE_LENGTH] or f"Talk with {animal.name}",
        opening=opening,
    )
    await call.services.store.create_session(session)
    location = {"Location": f"/chat/sessions/{session.session_id}"}
    return JSONResponse(created_object(session), 201, location)


@on_loop
async def list_chat_sessions(call: Call, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    page = await call.services.store.sessions_of(identify(call).owner, limit, cursor)
    sessions = [session_object(session) for session in page.items]
    return JSONResponse({"sessions": sessions, "nextCursor": page.next_cursor})


@on_loop
async def get_chat_session(call: Call, session_id: str, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    session = await session_for(call, session_id, Doing.READ)
    page = await call.services.store.turns_of(session.session_id, limit, cursor)
    return JSONResponse(details_object(session, page, is_first=cursor is None))


@on_loop
async def delete_chat_session(call: Call, session_id: str) -> ASGIApp:
    session = await session_for(call, session_id, Doing.CHANGE)
    await delete_session(call, session.session_id)
    return JSONResponse({"message": "The session was deleted.", "sessionId": session.session_id})


@on_loop
async def stream_chat_session(call: Call, session_id: str, body: dict[str, Any]) -> ASGIApp:
    session = await session_for(call, session_id, Doing.CHANGE)
    _require_known_model(call, body)
    last_event_id = call.headers.get("last-event-id")
    if last_event_id:
        return await resumed(call, SESSIONS, last_event_id, body["message"], partial(is_in, session_id))
    keys = idempotency_keys(call, {**body, "sessionId": session_id}, identify(call))
    question = await _question(call, session, body)
    try:
        accepted = await call.services.engine.start(question, keys)
    except TurnRunning as busy:
        message = "The session already streams: confirm the running stream, or wait for its end."
        raise SessionStreaming(message, turn_id=busy.turn_id, details=(("message", message),)) from None
    return await streamed(call, SESSIONS, accepted)


@on_loop
async def update_stream(call: Call, session_id: str, body: dict[str, Any]) -> ASGIApp:
    session = await session_for(call, session_id, Doing.CHANGE)
    latest = await call.services.store.latest_turns(session.session_id, 1)
    given = body["streamingSessionId"].encode()
    # Constant time, and the same answer for every wrong id: the right one cannot be felt out.
    if not latest or not hmac.compare_digest(latest[0].turn_id.encode(), given):
        message = "Streaming session ID mismatch: this is not the session's last stream."
        # Clients of this contract have always looked for the sentence under `message`.
        errors = (FieldError("streamingSessionId", "mismatch"),)
        raise StreamMismatch(message, errors=errors, details=(("message", message),))
    # A client that confirms is done, whether the animal is or not.
    turn = await call.services.engine.stop(latest[0].turn_id)
    return JSONResponse(confirmed_object(turn))


async def _question(call: Call, session: SessionRecord, body: dict[str, Any]) -> Question:
    animal = await animal_named(call, session.animal_id)
    price, person = call.services.settings.credits_per_token, call.person
    at_most = call.services.provider.model_for(animal).turn_tokens * price
    return Question(
        animal=animal,
        message=body["message"],
        place=Place(session.session_id, session.owner),
        opening=session.opening,
        charge=Charge(person.username, at_most, price) if person else None,
    )


def _require_known_model(call: Call, body: dict[str, Any]) -> None:
    """`InvalidInput` when the body asks for a model that is not to be had here."""
    known = [model.model_id for model in call.services.provider.models()]
    if body.get("modelId", known[0]) not in known:
        message = "must be the id of an available model: GET /models lists them"
        raise InvalidInput(f"modelId: {message}", errors=(FieldError("modelId", message),))
