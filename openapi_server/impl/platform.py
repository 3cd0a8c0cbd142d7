"""The analytics platform's contract: `/api/v1/stream`, jobs to poll, and simulated failures.

The simulations are streams that fail on purpose, for developers who test a client of this contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.pipeline import MAX_HISTORY_TURNS
from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import OnBusy, SessionRef, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import Access, find_token_session, get_authorized_turn, is_administrator
from openapi_server.http.identity import Identity, derive_name_key, derive_session_id, find_owner, identify_caller
from openapi_server.impl.stream_resumption import resume_stream
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.impl.turn_requests import (
    choose_on_busy,
    get_active_animal,
    make_idempotency_keys,
    make_session_headers,
    start_turn,
)
from openapi_server.impl.turn_responses import start_stream
from openapi_server.models.animal import Animal
from openapi_server.models.audit import EVERYBODY, AuditAction
from openapi_server.models.errors import (
    ChatError,
    JobNotFound,
    NotFound,
    ProviderFailed,
    TurnNotFound,
    TurnRunning,
    TurnTimeout,
)
from openapi_server.models.ids import make_id
from openapi_server.models.page import Page
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup, Stage, TurnRecord
from openapi_server.models.turn_event_order import TurnEventBuilder
from openapi_server.models.turn_events import Started, TurnEvent
from openapi_server.wire.platform import (
    PLATFORM,
    encode_accepted,
    encode_heartbeat,
    encode_job,
    is_job_mode,
    parse_job_id,
)

# The contract's longest time: every stream has ended by then.
SIMULATED_TIMEOUT_S = 300


@async_handler
async def ask_with_progress(context: RequestContext, body: dict[str, Any], mode: str = "stream") -> ASGIApp:
    is_job = is_job_mode(mode)
    last_event_id = context.headers.get("last-event-id")
    if last_event_id and not is_job:
        return await resume_stream(
            context, PLATFORM, last_event_id, body["query"], partial(_is_same_request, context, body)
        )
    identity = identify_caller(context)
    accepted = await _start_turn(context, body, identity, is_job=is_job)
    headers = make_session_headers(context, accepted, identity)
    if is_job:
        return JSONResponse(encode_accepted(accepted.turn_id, context.root_path), headers=headers)
    return await start_stream(context, PLATFORM, accepted, headers)


@async_handler
async def get_job(context: RequestContext, job_id: str) -> ASGIApp:
    return JSONResponse(await _get_job(context, job_id))


@async_handler
async def get_job_v1(context: RequestContext, job_id: str) -> ASGIApp:
    return JSONResponse(await _get_job(context, job_id))


@async_handler
async def list_jobs(context: RequestContext, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    sees_all = is_administrator(context)
    owner = None if sees_all else find_owner(context)
    if sees_all or owner is not None:
        page = await context.services.store.list_owner_turns(owner, limit, cursor)
    else:
        page = await _list_token_turns(context, limit)
    if sees_all:
        await record_audit(context, AuditAction.SESSIONS_LISTED, EVERYBODY)
    jobs = [await _describe_job(context, turn) for turn in page.items]
    return JSONResponse({"jobs": jobs, "next_cursor": page.next_cursor})


async def _list_token_turns(context: RequestContext, limit: int) -> Page[TurnRecord]:
    """The latest turns of the session whose token the request brings, latest first; on one page."""
    session = await find_token_session(context)
    turns = await context.services.store.list_latest_turns(session.session_id, limit) if session else ()
    return Page(tuple(reversed(turns)))


async def _start_turn(
    context: RequestContext, body: dict[str, Any], identity: Identity, *, is_job: bool
) -> AcceptedTurn:
    """Start the turn in the caller's session with the animal.

    While that one has a running turn, the turn gets a new session, unless the request says what else is to happen.
    """
    # This contract promises that a job needs the cookie that began it.
    request = replace(await _make_turn_request(context, body, identity), is_bound=is_job)
    scopes = () if request.session.session_id is None else (request.session.session_id,)
    keys = make_idempotency_keys(context, body, identity, scopes)
    try:
        return await start_turn(context, request, keys)
    except TurnRunning:
        if body.get("onBusy") is not None:
            raise
        own_session_id = request.session.session_id
        request = replace(request, session=SessionRef(owner=identity.owner), recall_from_session_id=own_session_id)
        return await start_turn(context, request, keys)


async def _make_turn_request(context: RequestContext, body: dict[str, Any], identity: Identity) -> TurnRequest:
    animal = await get_active_animal(context, body.get("animal_id", context.services.settings.default_animal))
    sent = body.get("conversation_history")
    # More would be cleaned and checked for nothing: the pipeline uses no more.
    history = _pair_messages(sent)[-MAX_HISTORY_TURNS:] if sent else None
    session = SessionRef(owner=identity.owner)
    if body.get("memory_enabled", True) and history is None:
        session = await _find_session(context, identity, animal)
    return TurnRequest(
        animal=animal,
        message=body["query"],
        contract=PLATFORM.name,
        session=session,
        client_history=history,
        may_retrieve_facts=body.get("auto_load_documents", True),
        on_busy=choose_on_busy(body, OnBusy.REJECT),
    )


async def _find_session(context: RequestContext, identity: Identity, animal: Animal) -> SessionRef:
    """The session of the caller's token, if it is with this animal; else the caller's own with it."""
    name_key = derive_name_key(context, "platform", "")
    known = await find_token_session(context) if identity.is_new else None
    if known is not None and known.name_key == name_key and known.animal_id == animal.animal_id:
        return SessionRef(known.session_id, known.owner, is_client_chosen=True, name_key=name_key)
    session_id = derive_session_id(context, "platform", identity.owner, animal.animal_id)
    return SessionRef(session_id, identity.owner, is_client_chosen=True, name_key=name_key)


def _pair_messages(messages: list[dict[str, str]]) -> tuple[Exchange, ...]:
    """The client's messages in pairs of a message and its reply; what is missing of a pair is empty."""
    exchanges: list[Exchange] = []
    for message in messages:
        if message["role"] == "user":
            exchanges.append(Exchange(message["content"], ""))
        else:
            last = exchanges.pop() if exchanges and not exchanges[-1].reply else Exchange("", "")
            exchanges.append(Exchange(last.message, message["content"]))
    return tuple(exchanges)


def _is_same_request(context: RequestContext, body: dict[str, Any], turn: TurnRecord) -> bool:
    return bool(turn.animal_id == body.get("animal_id", context.services.settings.default_animal))


async def _get_job(context: RequestContext, job_id: str) -> dict[str, object]:
    try:
        turn = await get_authorized_turn(context, parse_job_id(job_id), Access.READ)
    except TurnNotFound:
        raise JobNotFound from None
    return await _describe_job(context, turn)


async def _describe_job(context: RequestContext, turn: TurnRecord) -> dict[str, object]:
    live = None if turn.outcome else await context.services.engine.get_state(turn.turn_id)
    return encode_job(turn, live)


@async_handler
async def simulate_stream_error(context: RequestContext, body: dict[str, Any], mode: str = "stream") -> ASGIApp:
    error = ProviderFailed("This failure is a simulation.")
    if is_job_mode(mode):
        return await _start_failing_job(context, body, error)
    return await _simulate(context, body, error, 0)


@async_handler
async def simulate_stream_timeout(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _simulate(context, body, TurnTimeout("This timeout is a simulation."), SIMULATED_TIMEOUT_S)


async def _start_failing_job(context: RequestContext, body: dict[str, Any], error: ChatError) -> ASGIApp:
    """A real turn, in a session of its own, so that no later turn remembers it."""
    _require_simulations(context)
    identity = identify_caller(context)
    request = replace(
        await _make_turn_request(context, {**body, "memory_enabled": False}, identity),
        is_bound=True,
        simulated_error=error,
    )
    accepted = await start_turn(context, request, ())
    headers = make_session_headers(context, accepted, identity)
    return JSONResponse(encode_accepted(accepted.turn_id, context.root_path), headers=headers)


def _require_simulations(context: RequestContext) -> None:
    if not context.services.settings.has_simulations:
        raise NotFound("Simulations are off on this server.")


async def _simulate(context: RequestContext, body: dict[str, Any], error: ChatError, silent_s: float) -> ASGIApp:
    _require_simulations(context)
    settings = context.services.settings
    animal = await get_active_animal(context, body.get("animal_id", settings.default_animal))
    streamer = SSEStreamer(PLATFORM, heartbeat_s=settings.heartbeat_s, clock=context.services.clock)
    started = _make_started_event(animal)
    headers = {"X-Streaming-Session-Id": started.turn_id, **identify_caller(context).headers}
    steps = _generate_steps(started, error, silent_s, settings.heartbeat_s)
    return streamer.create_sse_response(streamer.stream_script(started.turn_id, steps), headers)


async def _generate_steps(
    started: Started, error: ChatError, silent_s: float, heartbeat_s: float
) -> AsyncGenerator[list[TurnEvent] | str, None]:
    """The events of a failing turn: its start, heartbeats for `silent_s` seconds, and the error."""
    builder = TurnEventBuilder(started)
    yield builder.start()
    yield builder.change_stage(Stage.RETRIEVAL, is_complete=True, detail="0 facts found", found=0)
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + silent_s
    while loop.time() < ends_s:
        await asyncio.sleep(min(heartbeat_s, ends_s - loop.time()))
        yield encode_heartbeat(None, 0)
    yield builder.fail(error, 0)


def _make_started_event(animal: Animal) -> Started:
    turn_id, session_id = make_id("turn"), make_id("sess")
    names = (animal.animal_id, animal.name)
    return Started(turn_id, session_id, *names, "simulation", AgeGroup.ELEMENTARY, animal.disclosure)
