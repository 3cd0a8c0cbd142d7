"""The devices contract: `/chat/` and `/chat/stream`. A device's session is with one animal at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import OnBusy, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.identity import is_unguessable
from openapi_server.http.named_sessions import NamedSession, find_device_session
from openapi_server.impl.stream_resumption import continue_stream, is_in_session, resume_stream
from openapi_server.impl.turn_requests import choose_on_busy, make_idempotency_keys, make_session_headers, start_turn
from openapi_server.impl.turn_responses import make_reply_response, start_stream
from openapi_server.models.animal import Animal
from openapi_server.models.errors import FieldError, InvalidInput, SessionClaimed, SessionNotFound
from openapi_server.models.ids import shorten_id
from openapi_server.models.session import SessionRecord
from openapi_server.wire.devices import DEVICES, encode_reply, encode_session
from openapi_server.worker_threads import run_by_size

log = structlog.get_logger(__name__)


@async_handler
async def send_device_message(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    accepted, headers = await _start_turn(context, body, is_delivered_whole=True)
    return make_reply_response(context, accepted, encode_reply, headers)


@async_handler
async def stream_device_message(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    last_event_id = context.headers.get("last-event-id")
    if last_event_id:
        session = await find_device_session(context)
        is_same = partial(is_in_session, session.session_id)
        return await resume_stream(context, DEVICES, last_event_id, body["content"], is_same, session.readable_id)
    accepted, headers = await _start_turn(context, body, is_delivered_whole=False)
    return await start_stream(context, DEVICES, accepted, headers)


@async_handler
async def attach_device_stream(context: RequestContext) -> ASGIApp:
    session = await find_device_session(context)
    latest = await context.services.store.list_latest_turns(session.readable_id or "", 1)
    if not latest:
        raise SessionNotFound("This device has not said anything yet.")
    turn_id = latest[0].turn_id
    last_seen = context.headers.get("last-event-id", "")
    # An EventSource sends the last id of the turn before: then it has seen nothing of this one.
    return await continue_stream(context, DEVICES, turn_id, last_seen if last_seen.startswith(turn_id) else None)


@async_handler
async def get_device_session(context: RequestContext) -> ASGIApp:
    session = await find_device_session(context)
    return _make_session_response(session.record if session.readable_id else None)


@async_handler
async def set_device_session(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    session = await find_device_session(context)
    changed = await context.services.store.set_session_ttl(session.readable_id or "", body["session_ttl"])
    return _make_session_response(changed)


async def _start_turn(
    context: RequestContext, body: dict[str, Any], *, is_delivered_whole: bool
) -> tuple[AcceptedTurn, dict[str, str]]:
    """The turn, and the headers of its answer."""
    if not body["content"].strip():
        raise InvalidInput("Content cannot be empty", errors=(FieldError("content", "cannot be empty"),))
    session = await find_device_session(context, is_storage_optional=True)
    try:
        accepted = await _start_turn_in(context, body, session, is_delivered_whole=is_delivered_whole)
    except SessionClaimed:
        session = await find_device_session(context, is_storage_optional=True)
        accepted = await _start_turn_in(context, body, session, is_delivered_whole=is_delivered_whole)
    return accepted, make_session_headers(context, accepted, session.identity)


async def _start_turn_in(
    context: RequestContext, body: dict[str, Any], session: NamedSession, *, is_delivered_whole: bool
) -> AcceptedTurn:
    request = TurnRequest(
        animal=await _choose_animal(context, body["content"], session),
        message=body["content"],
        contract=DEVICES.name,
        session=session.ref,
        media_urls=(*body.get("media_urls", ()), *body.get("audio_urls", ())),
        is_delivered_whole=is_delivered_whole,
        is_storage_optional=True,
        on_busy=choose_on_busy(body, OnBusy.INTERRUPT_UNREAD),
    )
    # The keys are the device's own: two devices with one cookie must not get each other's answers.
    keys = make_idempotency_keys(context, body, session.identity, session.key_scopes, within=session.name_key)
    return await start_turn(context, request, keys)


async def _choose_animal(context: RequestContext, content: str, device: NamedSession) -> Animal:
    """The animal that the visitor asks to talk with, else the session's animal, else the default animal."""
    knowledge = context.services.knowledge
    await knowledge.refresh()
    session = device.record
    current = knowledge.get_animal(session.animal_id) if session else None
    if current is not None and current.status != "active":
        current = None
    default = knowledge.get_animal(context.services.settings.default_animal)
    requested = await run_by_size(len(content), partial(knowledge.find_requested_animal, content))
    animal = requested or current or default
    if animal is None:
        raise SessionNotFound("No animal can be talked with now.")
    if session is None or animal.animal_id != session.animal_id:
        name = (device.handle or "").removeprefix("chat_")
        # A UUID is a key by itself.
        log.info(f"Session lock for {shorten_id(name) if is_unguessable(name) else name}: {animal.animal_id}")
    return animal


def _make_session_response(session: SessionRecord | None) -> ASGIApp:
    if session is None:
        raise SessionNotFound("This device has no session now.")
    return JSONResponse(encode_session(session))
