"""The chat contract: `/chat`. The client may choose the session's name, and disconnecting stops the turn."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import OnBusy, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.named_sessions import CHAT as CHAT_NAMES
from openapi_server.http.named_sessions import NamedSession, find_named_session, make_session_name
from openapi_server.impl.stream_resumption import resume_stream
from openapi_server.impl.turn_requests import (
    choose_on_busy,
    get_active_animal,
    make_idempotency_keys,
    make_session_headers,
    start_turn,
)
from openapi_server.impl.turn_responses import make_turn_response, start_stream
from openapi_server.models.animal import Animal
from openapi_server.models.errors import SessionClaimed
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import TurnRecord
from openapi_server.wire.chat import BARE_CHAT, CHAT, encode_answer


@async_handler
async def stream_chat_tokens(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    is_stream = body.get("streaming", _prefers_stream(context))
    name = body.get("session_id") or make_session_name(context)
    session = await find_named_session(context, CHAT_NAMES, name)
    last_event_id = context.headers.get("last-event-id")
    if is_stream and last_event_id:
        is_same = partial(_is_same_session, body, session)
        return await resume_stream(context, CHAT, last_event_id, body["message"], is_same, session.readable_id)
    try:
        accepted = await _start_turn(context, body, session, is_stream=is_stream)
    except SessionClaimed:
        session = await find_named_session(context, CHAT_NAMES, name)
        accepted = await _start_turn(context, body, session, is_stream=is_stream)
    headers = {**make_session_headers(context, accepted, session.identity), "X-Session-Id": name}
    if is_stream:
        return await start_stream(context, CHAT if _is_resumable(body) else BARE_CHAT, accepted, headers)
    return make_turn_response(context, accepted, partial(encode_answer, session_id=name), headers)


async def _start_turn(
    context: RequestContext, body: dict[str, Any], session: NamedSession, *, is_stream: bool
) -> AcceptedTurn:
    request = TurnRequest(
        animal=await _choose_animal(context, body, session.record),
        message=body["message"],
        contract=CHAT.name,
        session=session.ref,
        is_cancelled_on_disconnect=not _is_resumable(body),
        is_delivered_whole=not is_stream,
        on_busy=choose_on_busy(body, OnBusy.INTERRUPT_UNREAD),
    )
    keys = make_idempotency_keys(context, body, session.identity, session.key_scopes)
    return await start_turn(context, request, keys)


def _is_same_session(body: dict[str, Any], session: NamedSession, turn: TurnRecord) -> bool:
    """A request without a session's name may resume any turn that its caller may read."""
    return "session_id" not in body or turn.session_id == session.session_id


def _is_resumable(body: dict[str, Any]) -> bool:
    """Whether the client means to resume: its turn goes on without readers, and its stream has ids."""
    return body.get("onDisconnect") == "continue"


def _prefers_stream(context: RequestContext) -> bool:
    return context.choose_media_type("text/event-stream", "application/json") == "text/event-stream"


async def _choose_animal(context: RequestContext, body: dict[str, Any], session: SessionRecord | None) -> Animal:
    """The animal that the request names, else the session's animal, else the default animal."""
    if "animal_id" in body:
        return await get_active_animal(context, body["animal_id"])
    return await get_active_animal(context, session.animal_id if session else context.services.settings.default_animal)
