"""The zoo's own contract: `/convo_turn_stream` and `/convo_turn`, and reading and stopping a turn afterwards."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import OnBusy, SessionRef, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.authorization import Access, get_authorized_session, get_authorized_turn
from openapi_server.http.identity import Identity, identify_caller
from openapi_server.impl.turn_requests import (
    choose_on_busy,
    get_active_animal,
    make_idempotency_keys,
    make_session_headers,
    start_turn,
)
from openapi_server.impl.turn_responses import continue_stream, make_turn_response, resume_stream, start_stream
from openapi_server.models.turn import AgeGroup, TurnRecord
from openapi_server.wire.convo import CONVO, encode_answer, encode_state, encode_stop

NO_SESSION_DETAIL = "There is no such session. Leave sessionId out to begin a new one."


@async_handler
async def convo_turn_stream(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _handle_turn(context, body, is_stream=body.get("stream", True))


@async_handler
async def convo_turn(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _handle_turn(context, body, is_stream=body.get("stream", False))


@async_handler
async def get_convo_turn(context: RequestContext, turn_id: str) -> ASGIApp:
    return JSONResponse(await _get_state(context, await get_authorized_turn(context, turn_id, Access.READ)))


@async_handler
async def stream_convo_turn(context: RequestContext, turn_id: str, after: str | None = None) -> ASGIApp:
    # The log may outlive its session, so the store decides whether the turn exists.
    turn = await get_authorized_turn(context, turn_id, Access.READ)
    return await continue_stream(context, CONVO, turn.turn_id, context.headers.get("last-event-id") or after)


@async_handler
async def stop_convo_turn(context: RequestContext, turn_id: str) -> ASGIApp:
    began_s = context.services.clock.monotonic()
    await get_authorized_turn(context, turn_id, Access.CHANGE)
    turn = await context.services.engine.stop_turn(turn_id)
    took_ms = round((context.services.clock.monotonic() - began_s) * 1000)
    return JSONResponse(encode_stop(turn, took_ms))


async def _handle_turn(context: RequestContext, body: dict[str, Any], *, is_stream: bool) -> ASGIApp:
    last_event_id = context.headers.get("last-event-id")
    if is_stream and last_event_id:
        return await resume_stream(context, CONVO, last_event_id, body["message"], partial(_is_same_request, body))
    identity = identify_caller(context)
    is_async = "respond-async" in context.preferences
    request = await _make_turn_request(context, body, identity, is_delivered_whole=not is_stream and not is_async)
    # Who may continue a session may also repeat a request in it, with or without a cookie.
    scopes = () if request.session.session_id is None else (request.session.session_id,)
    keys = make_idempotency_keys(context, body, identity, scopes)
    accepted = await start_turn(context, request, keys)
    headers = make_session_headers(context, accepted, identity)
    if is_async:
        return await _make_accepted_response(context, accepted, headers)
    if is_stream:
        return await start_stream(context, CONVO, accepted, headers)
    return make_turn_response(context, accepted, encode_answer, headers)


async def _make_turn_request(
    context: RequestContext, body: dict[str, Any], identity: Identity, *, is_delivered_whole: bool
) -> TurnRequest:
    session_id = body.get("sessionId")
    if session_id is not None:
        await get_authorized_session(context, session_id, Access.CHANGE, NO_SESSION_DETAIL)
    return TurnRequest(
        animal=await get_active_animal(context, body["animalId"]),
        message=body["message"],
        contract=CONVO.name,
        age_group=AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)),
        session=SessionRef(session_id, identity.owner),
        context_summary=body.get("contextSummary"),
        metadata=_encode_metadata(body.get("metadata")),
        is_cancelled_on_disconnect=body.get("onDisconnect") == "cancel",
        is_delivered_whole=is_delivered_whole,
        on_busy=choose_on_busy(body, OnBusy.REJECT),
    )


def _is_same_request(body: dict[str, Any], turn: TurnRecord) -> bool:
    return (body["animalId"], body.get("sessionId", turn.session_id)) == (turn.animal_id, turn.session_id)


async def _make_accepted_response(context: RequestContext, accepted: AcceptedTurn, headers: dict[str, str]) -> ASGIApp:
    location = f"/convo_turn/{accepted.turn_id}"
    headers = {"Location": location, "Preference-Applied": "respond-async", **headers}
    turn = await context.services.engine.get_turn(accepted.turn_id)
    return JSONResponse(await _get_state(context, turn), 202, headers)


async def _get_state(context: RequestContext, turn: TurnRecord) -> dict[str, object]:
    return encode_state(turn, await context.services.engine.get_state(turn.turn_id))


def _encode_metadata(given: dict[str, Any] | None) -> str | None:
    return None if given is None else json.dumps(given, ensure_ascii=False, separators=(",", ":"))
