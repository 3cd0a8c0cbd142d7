"""The chat sessions contract: sessions of logged-in users, streams that cost credits, and their confirmation."""

from __future__ import annotations

import hmac
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_lifecycle import make_charge
from openapi_server.engine.turn_request import OnBusy, SessionRef, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.authorization import (
    Access,
    authorize_listing,
    get_authorized_session,
    get_observed_session,
    get_session_of_user,
    record_observation,
)
from openapi_server.http.idempotency import idempotent
from openapi_server.http.identity import identify_caller
from openapi_server.impl.stream_resumption import is_in_session, resume_stream
from openapi_server.impl.turn_requests import (
    choose_on_busy,
    delete_session,
    get_active_animal,
    make_idempotency_keys,
    mask_text,
    start_turn,
)
from openapi_server.impl.turn_responses import make_stream_response, make_turn_response, start_stream
from openapi_server.insulting_names import has_insulting_word
from openapi_server.models.animal import Animal
from openapi_server.models.control_characters import remove_control_characters
from openapi_server.models.errors import (
    FieldError,
    SessionStreaming,
    StreamMismatch,
    TurnNotFound,
    TurnRunning,
)
from openapi_server.models.ids import make_id
from openapi_server.models.session import SessionRecord
from openapi_server.wire.sessions import (
    SESSIONS,
    encode_answer,
    encode_confirmation,
    encode_created_session,
    encode_messages,
    encode_model,
    encode_session,
    encode_session_details,
)
from openapi_server.wire.sse import parse_event_id

TITLE_LENGTH = 60


@async_handler
async def list_models(context: RequestContext) -> ASGIApp:
    provider, price = context.services.provider, context.services.settings.token_price
    models, is_available = provider.list_models(), provider.get_state().is_up
    return JSONResponse({"models": [encode_model(model, price, is_available=is_available) for model in models]})


@async_handler
@idempotent(subject="sessionId")
async def create_chat_session(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    animal = await get_active_animal(context, body.get("animalId", context.services.settings.default_animal))
    opening = await mask_text(context, body["initialMessage"]) if "initialMessage" in body else None
    title = await mask_text(context, body.get("title", ""))
    now = context.services.clock.now()
    session = SessionRecord(
        session_id=make_id("sess"),
        animal_id=animal.animal_id,
        owner=identify_caller(context).owner,
        created_at=now,
        last_message_at=now,
        ttl_s=context.services.settings.session_ttl_s,
        title=_choose_title(title, opening or "", animal),
        opening=opening,
        is_charged=True,
    )
    await context.services.store.create_session(session)
    location = {"Location": f"/chat/sessions/{session.session_id}"}
    return JSONResponse(encode_created_session(session), 201, location)


def _choose_title(title: str, opening: str, animal: Animal) -> str:
    """The client's title, else the beginning of the first message, unless that holds an insult."""
    # The word at the end of the title may go on; what comes later is not in it, and would be read for nothing.
    is_insulting = has_insulting_word(opening[: 2 * TITLE_LENGTH])
    given = title or ("" if is_insulting else opening[:TITLE_LENGTH])
    return remove_control_characters(given).strip() or f"Talk with {animal.name}"


@async_handler
async def list_chat_sessions(context: RequestContext, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    return JSONResponse(await _list_sessions(context, identify_caller(context).owner, limit, cursor))


@async_handler
async def search_chat_users(context: RequestContext, query: str, limit: int = 50) -> ASGIApp:
    users = await context.services.accounts.search_users(query, limit)
    return JSONResponse({"users": [{"userId": user.username, "role": user.role} for user in users]})


@async_handler
async def list_chat_user_sessions(
    context: RequestContext, user_id: str, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    owner = await authorize_listing(context, user_id)
    return JSONResponse({"userId": user_id} | await _list_sessions(context, owner, limit, cursor))


@async_handler
async def get_chat_user_session(
    context: RequestContext, user_id: str, session_id: str, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    session = await get_session_of_user(context, user_id, session_id)
    return JSONResponse(await _describe_session(context, session, limit, cursor))


@async_handler
async def get_chat_session(
    context: RequestContext, session_id: str, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    session = await get_authorized_session(context, session_id, Access.READ)
    return JSONResponse(await _describe_session(context, session, limit, cursor))


@async_handler
async def delete_chat_session(context: RequestContext, session_id: str) -> ASGIApp:
    session = await get_authorized_session(context, session_id, Access.DELETE)
    await delete_session(context, session.session_id)
    return JSONResponse({"message": "The session was deleted.", "sessionId": session.session_id})


@async_handler
async def stream_chat_session(context: RequestContext, session_id: str, body: dict[str, Any]) -> ASGIApp:
    session = await get_authorized_session(context, session_id, Access.WRITE)
    last_event_id = context.headers.get("last-event-id")
    if last_event_id:
        return await resume_stream(
            context, SESSIONS, last_event_id, body["message"], partial(is_in_session, session_id)
        )
    return await start_stream(context, SESSIONS, await _start_turn(context, session, body))


@async_handler
async def send_chat_message(context: RequestContext, session_id: str, body: dict[str, Any]) -> ASGIApp:
    session = await get_authorized_session(context, session_id, Access.WRITE)
    accepted = await _start_turn(context, session, body, is_delivered_whole=True)
    return make_turn_response(context, accepted, encode_answer)


@async_handler
async def list_chat_messages(
    context: RequestContext, session_id: str, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    session = await get_authorized_session(context, session_id, Access.READ)
    page = await context.services.store.list_turns(session.session_id, limit, cursor)
    return JSONResponse(encode_messages(session, page, is_first=cursor is None))


@async_handler
async def observe_chat_session(context: RequestContext, session_id: str) -> ASGIApp:
    session = await get_observed_session(context, session_id)
    turns = await context.services.store.list_latest_turns(
        session.session_id, context.services.settings.queue_depth + 1
    )
    running = next((turn for turn in turns if turn.outcome is None), None)
    if running is None:
        raise TurnNotFound("No turn runs in this session now. Look again when its visitor has sent a message.")
    await record_observation(context, session)
    after = parse_event_id(context.headers.get("last-event-id", ""), running.turn_id)
    reader = await context.services.engine.open_reader(running.turn_id, after or 0, is_observer=True)
    return make_stream_response(context, SESSIONS, reader)


@async_handler
async def confirm_chat_stream(context: RequestContext, session_id: str, body: dict[str, Any]) -> ASGIApp:
    session = await get_authorized_session(context, session_id, Access.WRITE)
    turn_id = await _find_stream(context, session.session_id, body["streamingSessionId"])
    if turn_id is None:
        message = "Streaming session ID mismatch: this is not the session's last stream."
        # Clients of this contract read the sentence from `message`.
        errors = (FieldError("streamingSessionId", "mismatch"),)
        raise StreamMismatch(message, errors=errors, details=(("message", message),))
    # A client that confirms has finished reading, even if the turn still runs.
    turn = await context.services.engine.stop_turn(turn_id)
    return JSONResponse(encode_confirmation(turn))


async def _list_sessions(context: RequestContext, owner: str, limit: int, cursor: str | None) -> dict[str, object]:
    page = await context.services.store.list_sessions(owner, limit, cursor)
    counts = await context.services.store.count_messages([session.session_id for session in page.items])
    sessions = [encode_session(session, counts[session.session_id]) for session in page.items]
    return {"sessions": sessions, "nextCursor": page.next_cursor}


async def _describe_session(
    context: RequestContext, session: SessionRecord, limit: int, cursor: str | None
) -> dict[str, object]:
    page = await context.services.store.list_turns(session.session_id, limit, cursor)
    counts = await context.services.store.count_messages([session.session_id])
    return encode_session_details(session, page, counts[session.session_id], is_first=cursor is None)


async def _find_stream(context: RequestContext, session_id: str, given: str) -> str | None:
    """The id that the client gave, if it is that of the session's last turn, or of one that has not ended."""
    latest = await context.services.store.list_latest_turns(session_id, context.services.settings.queue_depth + 1)
    # Compared in constant time, and with the same answer for every wrong id, so the right one cannot be guessed.
    open_ids = [turn.turn_id for turn in latest if turn.outcome is None or turn is latest[-1]]
    equal = [turn_id for turn_id in open_ids if hmac.compare_digest(turn_id.encode(), given.encode())]
    return equal[0] if equal else None


async def _start_turn(
    context: RequestContext, session: SessionRecord, body: dict[str, Any], *, is_delivered_whole: bool = False
) -> AcceptedTurn:
    keys = make_idempotency_keys(context, {**body, "sessionId": session.session_id}, identify_caller(context))
    request = replace(await _make_turn_request(context, session, body), is_delivered_whole=is_delivered_whole)
    try:
        return await start_turn(context, request, keys)
    except TurnRunning as busy:
        if body.get("onBusy") is not None:
            raise
        message = "The session already streams: confirm the running stream, or wait for its end."
        raise SessionStreaming(message, turn_id=busy.turn_id, details=(("message", message),)) from None


async def _make_turn_request(context: RequestContext, session: SessionRecord, body: dict[str, Any]) -> TurnRequest:
    animal = await get_active_animal(context, session.animal_id)
    services, user = context.services, context.user
    return TurnRequest(
        animal=animal,
        message=body["message"],
        contract=SESSIONS.name,
        session=SessionRef(session.session_id, session.owner),
        opening=session.opening,
        on_busy=choose_on_busy(body, OnBusy.REJECT),
        charge=make_charge(user.username, services.provider, animal, services.settings.token_price) if user else None,
    )
