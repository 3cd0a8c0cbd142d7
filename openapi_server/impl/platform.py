"""The analytics platform's contract: `/api/v1/stream`, and the same turn as a job to be polled."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import Accepted
from openapi_server.engine.turn_request import Place, Question
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.authorization import is_callers
from openapi_server.http.identity import Visitor, identify, known_owner, session_named
from openapi_server.impl.turn_requests import animal_named, idempotency_keys
from openapi_server.impl.turn_responses import resumed, streamed
from openapi_server.models.animal import Exchange
from openapi_server.models.errors import JobNotFound, TurnNotFound, TurnRunning
from openapi_server.models.session import Page, TurnRecord
from openapi_server.models.user import Role
from openapi_server.wire.platform import PLATFORM, accepted_object, job_object, turn_id_of

NO_TURNS: Page[TurnRecord] = Page(())


@on_loop
async def stream(call: Call, body: dict[str, Any], mode: str = "stream") -> ASGIApp:
    last_event_id = call.headers.get("last-event-id")
    if mode == "stream" and last_event_id:
        return await resumed(call, PLATFORM, last_event_id, body["query"], partial(_is_same, call, body))
    visitor = identify(call)
    accepted = await _begun(call, body, visitor)
    if mode == "job":
        return JSONResponse(accepted_object(accepted.turn_id), headers=visitor.headers)
    return await streamed(call, PLATFORM, accepted, visitor.headers)


@on_loop
async def get_job(call: Call, job_id: str) -> ASGIApp:
    return JSONResponse(await _job(call, job_id))


@on_loop
async def get_job_v1(call: Call, job_id: str) -> ASGIApp:
    return JSONResponse(await _job(call, job_id))


@on_loop
async def list_jobs(call: Call, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    sees_all = call.person is not None and call.person.role is Role.ADMINISTRATOR
    owner = known_owner(call)
    is_anybody = sees_all or owner is not None
    store = call.services.store
    page = await store.turns_of_owner(None if sees_all else owner, limit, cursor) if is_anybody else NO_TURNS
    jobs = [await _shown(call, turn) for turn in page.items]
    return JSONResponse({"jobs": jobs, "next_cursor": page.next_cursor})


async def _begun(call: Call, body: dict[str, Any], visitor: Visitor) -> Accepted:
    """Begin the turn in the talk of this caller with the animal, or beside it when that is busy."""
    question = await _question(call, body, visitor)
    keys = idempotency_keys(call, body, visitor)
    try:
        return await call.services.engine.start(question, keys)
    except TurnRunning:
        beside = replace(question, place=Place(owner=visitor.owner), remembers=question.place.session_id)
        return await call.services.engine.start(beside, keys)


async def _question(call: Call, body: dict[str, Any], visitor: Visitor) -> Question:
    animal = await animal_named(call, body.get("animal_id", call.services.settings.default_animal))
    told = _told(body["conversation_history"]) if body.get("conversation_history") else None
    is_talk = body.get("memory_enabled", True) and told is None
    talk = session_named(call, "platform", visitor.owner, animal.animal_id)
    return Question(
        animal=animal,
        message=body["query"],
        place=Place(talk, visitor.owner, is_chosen=True) if is_talk else Place(owner=visitor.owner),
        told=told,
        may_look_up=body.get("auto_load_documents", True),
    )


def _told(messages: list[dict[str, str]]) -> tuple[Exchange, ...]:
    """The client's messages in pairs: what was asked, and what was said to it."""
    exchanges: list[Exchange] = []
    for message in messages:
        if message["role"] == "user":
            exchanges.append(Exchange(message["content"], ""))
        else:
            asked = exchanges.pop() if exchanges and not exchanges[-1].reply else Exchange("", "")
            exchanges.append(Exchange(asked.message, message["content"]))
    return tuple(exchanges)


def _is_same(call: Call, body: dict[str, Any], turn: TurnRecord) -> bool:
    return bool(turn.animal_id == body.get("animal_id", call.services.settings.default_animal))


async def _job(call: Call, job_id: str) -> dict[str, object]:
    try:
        turn = await call.services.engine.turn(turn_id_of(job_id))
    except TurnNotFound:
        raise JobNotFound from None
    if not is_callers(call, turn.owner):
        raise JobNotFound
    return await _shown(call, turn)


async def _shown(call: Call, turn: TurnRecord) -> dict[str, object]:
    live = None if turn.outcome else await call.services.engine.state(turn.turn_id)
    return job_object(turn, live)
