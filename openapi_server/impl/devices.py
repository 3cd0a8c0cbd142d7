"""The devices contract: `/chat/` and `/chat/stream`. A device's session is with one animal at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.identity import DeviceIdentity, Identity, find_owner, identify_device
from openapi_server.impl.turn_requests import make_idempotency_keys, start_turn
from openapi_server.impl.turn_responses import (
    continue_stream,
    is_in_session,
    make_reply_response,
    resume_stream,
    start_stream,
)
from openapi_server.models.animal import Animal
from openapi_server.models.errors import FieldError, InvalidInput, SessionNotFound, StoreUnavailable
from openapi_server.models.session import SessionRecord
from openapi_server.wire.devices import DEVICES, encode_reply, encode_session
from openapi_server.worker_threads import run_by_size

log = structlog.get_logger(__name__)


@async_handler
async def device_chat(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    device = identify_device(context)
    accepted = await _start_turn(context, body, device, is_delivered_whole=True)
    return make_reply_response(context, accepted, encode_reply, device.headers)


@async_handler
async def device_chat_stream(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    device = identify_device(context)
    last_event_id = context.headers.get("last-event-id")
    if last_event_id:
        return await resume_stream(
            context, DEVICES, last_event_id, body["content"], partial(is_in_session, device.session_id)
        )
    accepted = await _start_turn(context, body, device, is_delivered_whole=False)
    return await start_stream(context, DEVICES, accepted, device.headers)


@async_handler
async def device_chat_listen(context: RequestContext) -> ASGIApp:
    latest = await context.services.store.list_latest_turns(identify_device(context).session_id, 1)
    if not latest:
        raise SessionNotFound("This device has not said anything yet.")
    turn_id = latest[0].turn_id
    last_seen = context.headers.get("last-event-id", "")
    # An EventSource sends the last id of the turn before: then it has seen nothing of this one.
    return await continue_stream(context, DEVICES, turn_id, last_seen if last_seen.startswith(turn_id) else None)


@async_handler
async def get_device_session(context: RequestContext) -> ASGIApp:
    session = await context.services.store.get_session(identify_device(context).session_id)
    return _make_session_response(session)


@async_handler
async def set_device_session(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    session = await context.services.store.set_session_ttl(identify_device(context).session_id, body["session_ttl"])
    return _make_session_response(session)


async def _start_turn(
    context: RequestContext, body: dict[str, Any], device: DeviceIdentity, *, is_delivered_whole: bool
) -> AcceptedTurn:
    if not body["content"].strip():
        raise InvalidInput("Content cannot be empty", errors=(FieldError("content", "cannot be empty"),))
    request = TurnRequest(
        animal=await _choose_animal(context, body["content"], device),
        message=body["content"],
        contract=DEVICES.name,
        session=SessionRef(device.session_id, find_owner(context), is_client_chosen=True, handle=device.handle),
        media_urls=(*body.get("media_urls", ()), *body.get("audio_urls", ())),
        is_delivered_whole=is_delivered_whole,
        is_storage_optional=True,
    )
    # The keys are the device's own: two devices behind one address must not get each other's answers.
    keys = make_idempotency_keys(context, body, Identity(device.session_id, device.set_cookie))
    return await start_turn(context, request, keys)


async def _choose_animal(context: RequestContext, content: str, device: DeviceIdentity) -> Animal:
    """The animal that the visitor asks to talk with, else the session's animal, else the default animal."""
    knowledge = context.services.knowledge
    await knowledge.refresh()
    session = await _find_session(context, device)
    current = knowledge.get_animal(session.animal_id) if session else None
    if current is not None and current.status != "active":
        current = None
    default = knowledge.get_animal(context.services.settings.default_animal)
    requested = await run_by_size(len(content), partial(knowledge.find_requested_animal, content))
    animal = requested or current or default
    if animal is None:
        raise SessionNotFound("No animal can be talked with now.")
    if session is None or animal.animal_id != session.animal_id:
        log.info(f"Session lock for {device.name}: {animal.animal_id}")
    return animal


async def _find_session(context: RequestContext, device: DeviceIdentity) -> SessionRecord | None:
    try:
        return await context.services.store.get_session(device.session_id)
    except StoreUnavailable:
        # The turn is answered without memory, which the engine logs.
        return None


def _make_session_response(session: SessionRecord | None) -> ASGIApp:
    if session is None:
        raise SessionNotFound("This device has no session now.")
    return JSONResponse(encode_session(session))
