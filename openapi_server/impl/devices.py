"""The devices' contract: `/chat/` and `/chat/stream`, where a device talks with one animal at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.engine.turn_engine import Accepted
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.engine.turn_request import Place, Question
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.disconnect import unless_left
from openapi_server.http.identity import Device, Visitor, device_of, known_owner
from openapi_server.http.problems import problem_json
from openapi_server.impl.turn_requests import idempotency_keys
from openapi_server.impl.turn_responses import attached, is_in, resumed, streamed
from openapi_server.models.animal import Animal
from openapi_server.models.errors import FieldError, InvalidInput, SessionDeleted, SessionNotFound, StoreUnavailable
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import Completed, Failed
from openapi_server.wire.devices import DEVICES, session_object

log = structlog.get_logger(__name__)


@on_loop
async def device_chat(call: Call, body: dict[str, Any]) -> ASGIApp:
    device = device_of(call)
    accepted = await _begun(call, body, device, is_read_whole=True)
    return SpokenAnswer(await call.services.engine.read(accepted.turn_id), device.headers)


@on_loop
async def device_chat_stream(call: Call, body: dict[str, Any]) -> ASGIApp:
    device = device_of(call)
    last_event_id = call.headers.get("last-event-id")
    if last_event_id:
        return await resumed(call, DEVICES, last_event_id, body["content"], partial(is_in, device.session_id))
    accepted = await _begun(call, body, device, is_read_whole=False)
    return await streamed(call, DEVICES, accepted, device.headers)


@on_loop
async def device_chat_listen(call: Call) -> ASGIApp:
    latest = await call.services.store.latest_turns(device_of(call).session_id, 1)
    if not latest:
        raise SessionNotFound("This device has not said anything yet.")
    turn_id = latest[0].turn_id
    last_seen = call.headers.get("last-event-id", "")
    # An EventSource brings along the last id of the turn before: this one it has not seen.
    return await attached(call, DEVICES, turn_id, last_seen if last_seen.startswith(turn_id) else None)


@on_loop
async def get_device_session(call: Call) -> ASGIApp:
    session = await call.services.store.session(device_of(call).session_id)
    return _shown(session)


@on_loop
async def set_device_session(call: Call, body: dict[str, Any]) -> ASGIApp:
    session = await call.services.store.set_session_ttl(device_of(call).session_id, body["session_ttl"])
    return _shown(session)


class SpokenAnswer:
    """ASGI answer of what the animal said, from the turn's own log: it needs no store."""

    def __init__(self, reader: TurnReader, headers: Mapping[str, str]) -> None:
        self._reader = reader
        self._headers = dict(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._reader:
            ending = await unless_left(receive, self._ending())
        if ending is not None:
            await self._shaped(ending)(scope, receive, send)

    async def _ending(self) -> Completed | Failed:
        return await self._reader.to_end() or Failed(SessionDeleted().problem)

    def _shaped(self, ending: Completed | Failed) -> ASGIApp:
        if isinstance(ending, Completed):
            return JSONResponse({"content": ending.reply}, headers=self._headers)
        retry = {"Retry-After": "2"} if ending.problem.retryable else {}
        return problem_json(ending.problem, {**retry, **self._headers})


async def _begun(call: Call, body: dict[str, Any], device: Device, *, is_read_whole: bool) -> Accepted:
    if not body["content"].strip():
        message = "Content cannot be empty"
        raise InvalidInput(message, errors=(FieldError("content", "cannot be empty"),))
    question = Question(
        animal=await _animal(call, body["content"], device),
        message=body["content"],
        place=Place(device.session_id, known_owner(call), is_chosen=True, handle=device.handle),
        media_urls=(*body.get("media_urls", ()), *body.get("audio_urls", ())),
        is_read_whole=is_read_whole,
        may_go_unstored=True,
    )
    # A device's keys are its own: two of them behind one address must not hear each other's answers.
    keys = idempotency_keys(call, body, Visitor(device.session_id, device.set_cookie))
    return await call.services.engine.start(question, keys)


async def _animal(call: Call, content: str, device: Device) -> Animal:
    """Who answers: the animal that the visitor asks for, else the one the device talks with, else the zoo's default."""
    knowledge = call.services.knowledge
    await knowledge.refresh()
    session = await _session(call, device)
    known = knowledge.animal(session.animal_id) if session else None
    kept = known if known is not None and known.status == "active" else None
    default = knowledge.animal(call.services.settings.default_animal)
    animal = knowledge.wished(content) or kept or default
    if animal is None:
        raise SessionNotFound("No animal can be talked with now.")
    if session is None or animal.animal_id != session.animal_id:
        log.info(f"Session lock for {device.name}: {animal.animal_id}")
    return animal


async def _session(call: Call, device: Device) -> SessionRecord | None:
    try:
        return await call.services.store.session(device.session_id)
    except StoreUnavailable:
        # The turn itself will say that it goes on without memory.
        return None


def _shown(session: SessionRecord | None) -> ASGIApp:
    if session is None:
        raise SessionNotFound("This device has no session now.")
    return JSONResponse(session_object(session))
