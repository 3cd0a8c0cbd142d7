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
from openapi_server.http.identity import Identity, choose_session_id, identify_caller
from openapi_server.http.named_sessions import CONVO as CONVO_NAMES
from openapi_server.http.named_sessions import NamedSession, find_named_session
from openapi_server.impl.stream_resumption import continue_stream, resume_stream
from openapi_server.impl.turn_requests import (
    choose_on_busy,
    get_active_animal,
    make_idempotency_keys,
    make_session_headers,
    start_turn,
)
from openapi_server.impl.turn_responses import make_turn_response, start_stream
from openapi_server.models.errors import Forbidden, NotAcceptable, SessionClaimed
from openapi_server.models.ids import is_made_id
from openapi_server.models.turn import AgeGroup, TurnRecord
from openapi_server.wire.convo import CONVO, encode_answer, encode_state, encode_stop

NO_SESSION_DETAIL = "There is no such session. Leave sessionId out to begin a new one."


@async_handler
async def convo_turn_stream(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _handle_turn(context, body, is_stream=body.get("stream", True), is_async=_is_async(context))


@async_handler
async def ask_with_event_source(
    context: RequestContext,
    message: str,
    animal_id: str,
    session_id: str | None = None,
    age_group: str | None = None,
    on_busy: str | None = None,
    idempotency_key: str | None = None,
) -> ASGIApp:
    _require_event_source(context)
    given = {"sessionId": choose_session_id(context, session_id), "ageGroup": age_group, "onBusy": on_busy}
    body = {"message": message, "animalId": animal_id} | {name: value for name, value in given.items() if value}
    return await _handle_turn(context, body, is_stream=True, query_key=idempotency_key)


@async_handler
async def convo_turn(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _handle_turn(context, body, is_stream=body.get("stream", False), is_async=_is_async(context))


@async_handler
async def get_convo_turn(context: RequestContext, turn_id: str) -> ASGIApp:
    return JSONResponse(await _get_state(context, await get_authorized_turn(context, turn_id, Access.READ)))


@async_handler
async def stream_convo_turn(context: RequestContext, turn_id: str) -> ASGIApp:
    # The log may outlive its session, so the store decides whether the turn exists.
    turn = await get_authorized_turn(context, turn_id, Access.READ)
    return await continue_stream(context, CONVO, turn.turn_id, context.headers.get("last-event-id"))


@async_handler
async def stop_convo_turn(context: RequestContext, turn_id: str) -> ASGIApp:
    began_s = context.services.clock.monotonic()
    await get_authorized_turn(context, turn_id, Access.WRITE)
    turn = await context.services.engine.stop_turn(turn_id)
    took_ms = round((context.services.clock.monotonic() - began_s) * 1000)
    return JSONResponse(encode_stop(turn, took_ms))


def _require_event_source(context: RequestContext) -> None:
    """Raise an error for a `GET` that means no question: of a crawler, a prefetch, or the page of a stranger."""
    if not context.is_asked_for("text/event-stream"):
        raise NotAcceptable("Send `Accept: text/event-stream`, as a browser's EventSource does.")
    if any("prefetch" in context.headers.get(name, "").lower() for name in ("sec-purpose", "purpose", "x-moz")):
        raise NotAcceptable("A question is not asked in advance.")
    if not _may_page_ask(context):
        raise Forbidden("Pages of this origin may not ask here. CORS_ORIGINS lists those that may.")


def _may_page_ask(context: RequestContext) -> bool:
    """Whether the request is one of this server's own pages, of a page of an allowed origin, or of no page at all.

    A page of another origin may send a `GET` with the visitor's cookies, without asking before: CORS has no preflight
    for it. A browser names that page in `Origin`, but not in the mode `no-cors`, in which any page may ask for what it
    cannot read. There Fetch Metadata (`Sec-Fetch-Site`, `Sec-Fetch-Mode`) tells: pages cannot set these headers, and
    an EventSource and whoever reads the answer have the mode `cors`, or `same-origin`.
    """
    headers = context.headers
    if headers.get("sec-fetch-mode", "cors") not in ("cors", "same-origin"):
        return False
    origin = headers.get("origin")
    if origin is not None:
        return origin in (*context.services.settings.cors_origins, context.origin)
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def _is_async(context: RequestContext) -> bool:
    return "respond-async" in context.preferences


async def _handle_turn(
    context: RequestContext,
    body: dict[str, Any],
    *,
    is_stream: bool,
    is_async: bool = False,
    query_key: str | None = None,
) -> ASGIApp:
    last_event_id = context.headers.get("last-event-id")
    if is_stream and last_event_id:
        return await _resume_stream(context, body, last_event_id)
    is_delivered_whole = not is_stream and not is_async
    start = partial(_start_turn, context, body, is_delivered_whole=is_delivered_whole, query_key=query_key)
    try:
        accepted, headers = await start()
    except SessionClaimed:
        # The session was claimed after it was found: now the name means another one.
        accepted, headers = await start()
    if is_async:
        return await _make_accepted_response(context, accepted, headers)
    if is_stream:
        return await start_stream(context, CONVO, accepted, headers)
    encode = partial(encode_answer, session_id=body.get("sessionId", accepted.session_id))
    return make_turn_response(context, accepted, encode, headers)


async def _resume_stream(context: RequestContext, body: dict[str, Any], last_event_id: str) -> ASGIApp:
    named = await _find_named_session(context, body)
    session_id = named.session_id if named else body.get("sessionId")
    reached_id = named.record.session_id if named and named.record else None
    is_same = partial(_is_same_request, body["animalId"], session_id)
    return await resume_stream(context, CONVO, last_event_id, body["message"], is_same, reached_id)


async def _start_turn(
    context: RequestContext, body: dict[str, Any], *, is_delivered_whole: bool, query_key: str | None
) -> tuple[AcceptedTurn, dict[str, str]]:
    """The turn, and the headers of its answer."""
    named = await _find_named_session(context, body)
    if named is not None:
        identity, session, scopes = named.identity, named.ref, named.key_scopes
    else:
        identity = identify_caller(context)
        session = await _find_session(context, body.get("sessionId"), identity)
        # Who may continue a session may also repeat a request in it, with or without a cookie.
        scopes = () if session.session_id is None else (session.session_id,)
    request = await _make_turn_request(context, body, session, is_delivered_whole=is_delivered_whole)
    keys = make_idempotency_keys(context, body, identity, scopes, query_key=query_key)
    accepted = await start_turn(context, request, keys)
    return accepted, make_session_headers(context, accepted, identity)


async def _find_named_session(context: RequestContext, body: dict[str, Any]) -> NamedSession | None:
    """The session that the client's own name stands for; None when it names none, or the server's id of one."""
    session_id = body.get("sessionId")
    if session_id is None or is_made_id("sess", session_id):
        return None
    return await find_named_session(context, CONVO_NAMES, session_id)


async def _find_session(context: RequestContext, session_id: str | None, identity: Identity) -> SessionRef:
    """The session with the server's id; a new one without an id."""
    if session_id is not None:
        await get_authorized_session(context, session_id, Access.WRITE, NO_SESSION_DETAIL)
    return SessionRef(session_id, identity.owner)


async def _make_turn_request(
    context: RequestContext, body: dict[str, Any], session: SessionRef, *, is_delivered_whole: bool
) -> TurnRequest:
    return TurnRequest(
        animal=await get_active_animal(context, body["animalId"]),
        message=body["message"],
        contract=CONVO.name,
        age_group=AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)),
        session=session,
        context_summary=body.get("contextSummary"),
        metadata=_encode_metadata(body.get("metadata")),
        is_cancelled_on_disconnect=body.get("onDisconnect") == "cancel",
        is_delivered_whole=is_delivered_whole,
        on_busy=choose_on_busy(body, OnBusy.REJECT),
    )


def _is_same_request(animal_id: str, session_id: str | None, turn: TurnRecord) -> bool:
    return turn.animal_id == animal_id and session_id in (None, turn.session_id)


async def _make_accepted_response(context: RequestContext, accepted: AcceptedTurn, headers: dict[str, str]) -> ASGIApp:
    location = f"/convo_turn/{accepted.turn_id}"
    headers = {"Location": location, "Preference-Applied": "respond-async", **headers}
    turn = await context.services.engine.get_turn(accepted.turn_id)
    return JSONResponse(await _get_state(context, turn), 202, headers)


async def _get_state(context: RequestContext, turn: TurnRecord) -> dict[str, object]:
    return encode_state(turn, await context.services.engine.get_state(turn.turn_id))


def _encode_metadata(given: dict[str, Any] | None) -> str | None:
    return None if given is None else json.dumps(given, ensure_ascii=False, separators=(",", ":"))
