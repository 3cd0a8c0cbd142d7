"""The chat contract: `/chat`. The client chooses the session's name, and disconnecting stops the turn."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.types import ASGIApp

from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.identity import derive_session_id, find_owner, get_name_scope
from openapi_server.impl.turn_requests import get_active_animal, make_idempotency_keys, start_turn
from openapi_server.impl.turn_responses import is_in_session, make_turn_response, resume_stream, start_stream
from openapi_server.models.animal import Animal
from openapi_server.wire.chat import CHAT, encode_answer


@async_handler
async def chat(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    name = body["session_id"]
    session_id = derive_session_id(context, "tokens", get_name_scope(context, name), name)
    is_stream = body.get("streaming", _prefers_stream(context))
    last_event_id = context.headers.get("last-event-id")
    if is_stream and last_event_id:
        return await resume_stream(context, CHAT, last_event_id, body["message"], partial(is_in_session, session_id))
    request = TurnRequest(
        animal=await _choose_animal(context, body, session_id),
        message=body["message"],
        contract=CHAT.name,
        session=SessionRef(session_id, find_owner(context), is_client_chosen=True),
        is_cancelled_on_disconnect=body.get("onDisconnect", "cancel") == "cancel",
        is_delivered_whole=not is_stream,
    )
    accepted = await start_turn(context, request, make_idempotency_keys(context, body))
    if is_stream:
        return await start_stream(context, CHAT, accepted)
    return make_turn_response(context, accepted, partial(encode_answer, session_id=name))


def _prefers_stream(context: RequestContext) -> bool:
    return context.choose_media_type("text/event-stream", "application/json") == "text/event-stream"


async def _choose_animal(context: RequestContext, body: dict[str, Any], session_id: str) -> Animal:
    """The animal that the request names, else the session's animal, else the default animal."""
    if "animal_id" in body:
        return await get_active_animal(context, body["animal_id"])
    session = await context.services.store.get_session(session_id)
    return await get_active_animal(context, session.animal_id if session else context.services.settings.default_animal)
