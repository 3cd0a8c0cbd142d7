"""The analytics platform's contract: `/api/v1/stream`, and the same turn as a job to be polled."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.authorization import may_read_job
from openapi_server.http.identity import Identity, derive_session_id, find_owner, identify_caller
from openapi_server.impl.turn_requests import get_active_animal, make_idempotency_keys
from openapi_server.impl.turn_responses import resume_stream, start_stream
from openapi_server.models.errors import JobNotFound, TurnNotFound, TurnRunning
from openapi_server.models.page import Page
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import TurnRecord
from openapi_server.models.user import Role
from openapi_server.wire.platform import PLATFORM, encode_accepted, encode_job, parse_job_id

NO_TURNS: Page[TurnRecord] = Page(())


@async_handler
async def stream(context: RequestContext, body: dict[str, Any], mode: str = "stream") -> ASGIApp:
    last_event_id = context.headers.get("last-event-id")
    if mode == "stream" and last_event_id:
        return await resume_stream(
            context, PLATFORM, last_event_id, body["query"], partial(_is_same_request, context, body)
        )
    visitor = identify_caller(context)
    accepted = await _start_turn(context, body, visitor)
    if mode == "job":
        return JSONResponse(encode_accepted(accepted.turn_id), headers=visitor.headers)
    return await start_stream(context, PLATFORM, accepted, visitor.headers)


@async_handler
async def get_job(context: RequestContext, job_id: str) -> ASGIApp:
    return JSONResponse(await _get_job(context, job_id))


@async_handler
async def get_job_v1(context: RequestContext, job_id: str) -> ASGIApp:
    return JSONResponse(await _get_job(context, job_id))


@async_handler
async def list_jobs(context: RequestContext, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    sees_all = context.user is not None and context.user.role is Role.ADMINISTRATOR
    owner = find_owner(context)
    is_anybody = sees_all or owner is not None
    store = context.services.store
    page = await store.list_owner_turns(None if sees_all else owner, limit, cursor) if is_anybody else NO_TURNS
    jobs = [await _describe_job(context, turn) for turn in page.items]
    return JSONResponse({"jobs": jobs, "next_cursor": page.next_cursor})


async def _start_turn(context: RequestContext, body: dict[str, Any], visitor: Identity) -> AcceptedTurn:
    """Begin the turn in the talk of this caller with the animal, or beside it when that is busy."""
    question = await _make_turn_request(context, body, visitor)
    keys = make_idempotency_keys(context, body, visitor)
    try:
        return await context.services.engine.start_turn(question, keys)
    except TurnRunning:
        beside = replace(
            question, session=SessionRef(owner=visitor.owner), recall_from_session_id=question.session.session_id
        )
        return await context.services.engine.start_turn(beside, keys)


async def _make_turn_request(context: RequestContext, body: dict[str, Any], visitor: Identity) -> TurnRequest:
    animal = await get_active_animal(context, body.get("animal_id", context.services.settings.default_animal))
    told = _pair_messages(body["conversation_history"]) if body.get("conversation_history") else None
    is_talk = body.get("memory_enabled", True) and told is None
    talk = derive_session_id(context, "platform", visitor.owner, animal.animal_id)
    return TurnRequest(
        animal=animal,
        message=body["query"],
        session=SessionRef(talk, visitor.owner, is_client_chosen=True) if is_talk else SessionRef(owner=visitor.owner),
        client_history=told,
        may_retrieve_facts=body.get("auto_load_documents", True),
    )


def _pair_messages(messages: list[dict[str, str]]) -> tuple[Exchange, ...]:
    """The client's messages in pairs: what was asked, and what was said to it."""
    exchanges: list[Exchange] = []
    for message in messages:
        if message["role"] == "user":
            exchanges.append(Exchange(message["content"], ""))
        else:
            asked = exchanges.pop() if exchanges and not exchanges[-1].reply else Exchange("", "")
            exchanges.append(Exchange(asked.message, message["content"]))
    return tuple(exchanges)


def _is_same_request(context: RequestContext, body: dict[str, Any], turn: TurnRecord) -> bool:
    return bool(turn.animal_id == body.get("animal_id", context.services.settings.default_animal))


async def _get_job(context: RequestContext, job_id: str) -> dict[str, object]:
    try:
        turn = await context.services.engine.get_turn(parse_job_id(job_id))
    except TurnNotFound:
        raise JobNotFound from None
    if not may_read_job(context, turn.owner):
        raise JobNotFound
    return await _describe_job(context, turn)


async def _describe_job(context: RequestContext, turn: TurnRecord) -> dict[str, object]:
    live = None if turn.outcome else await context.services.engine.get_state(turn.turn_id)
    return encode_job(turn, live)
