"""Talking: `/convo_turn_stream`, `/convo_turn`, and what one can do with a turn once it was begun."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import Accepted
from openapi_server.engine.turn_request import Place, Question
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.authorization import Doing, session_for, turn_for
from openapi_server.http.identity import Visitor, identify
from openapi_server.impl.turn_requests import animal_named, idempotency_keys
from openapi_server.impl.turn_responses import WholeAnswer, attached, resumed, streamed
from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.session import TurnRecord
from openapi_server.models.turn import AgeGroup
from openapi_server.wire.convo import CONVO
from openapi_server.wire.convo_json import answer_object, state_object, stopped_object

MAX_METADATA_BYTES = 4096
NO_SESSION = "There is no such session. Leave sessionId out to begin a new one."


@on_loop
async def convo_turn_stream(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _converse(call, body, is_stream=body.get("stream", True))


@on_loop
async def convo_turn(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _converse(call, body, is_stream=body.get("stream", False))


@on_loop
async def get_convo_turn(call: Call, turn_id: str) -> ASGIApp:
    return JSONResponse(await _state(call, await turn_for(call, turn_id, Doing.READ)))


@on_loop
async def stream_convo_turn(call: Call, turn_id: str, after: str | None = None) -> ASGIApp:
    # The log may outlive its session: the store says whether there is such a turn.
    turn = await turn_for(call, turn_id, Doing.READ)
    return await attached(call, CONVO, turn.turn_id, call.headers.get("last-event-id") or after)


@on_loop
async def stop_convo_turn(call: Call, turn_id: str) -> ASGIApp:
    began_s = call.services.clock.monotonic()
    await turn_for(call, turn_id, Doing.CHANGE)
    turn = await call.services.engine.stop(turn_id)
    took_ms = round((call.services.clock.monotonic() - began_s) * 1000)
    return JSONResponse(stopped_object(turn, took_ms))


async def _converse(call: Call, body: dict[str, Any], *, is_stream: bool) -> ASGIApp:
    last_event_id = call.headers.get("last-event-id")
    if is_stream and last_event_id:
        return await resumed(call, CONVO, last_event_id, body["message"], partial(_is_same, body))
    visitor = identify(call)
    is_async = "respond-async" in call.preferences
    question = await _question(call, body, visitor, is_read_whole=not is_stream and not is_async)
    accepted = await call.services.engine.start(question, idempotency_keys(call, body, visitor))
    if is_async:
        return await _accepted(call, accepted, visitor)
    if is_stream:
        return await streamed(call, CONVO, accepted, visitor.headers)
    shape = partial(_answer, headers=visitor.headers)
    return WholeAnswer(call, accepted, shape, visitor.headers)


async def _question(call: Call, body: dict[str, Any], visitor: Visitor, *, is_read_whole: bool) -> Question:
    session_id = body.get("sessionId")
    if session_id is not None:
        await session_for(call, session_id, Doing.CHANGE, NO_SESSION)
    return Question(
        animal=await animal_named(call, body["animalId"]),
        message=body["message"],
        age_group=AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)),
        place=Place(session_id, visitor.owner),
        context_summary=body.get("contextSummary"),
        metadata=_metadata(body.get("metadata")),
        is_cancelled_on_disconnect=body.get("onDisconnect") == "cancel",
        is_read_whole=is_read_whole,
    )


def _is_same(body: dict[str, Any], turn: TurnRecord) -> bool:
    return (body["animalId"], body.get("sessionId", turn.session_id)) == (turn.animal_id, turn.session_id)


async def _accepted(call: Call, accepted: Accepted, visitor: Visitor) -> ASGIApp:
    location = f"/convo_turn/{accepted.turn_id}"
    headers = {"Location": location, "Preference-Applied": "respond-async", **visitor.headers}
    turn = await call.services.engine.turn(accepted.turn_id)
    return JSONResponse(await _state(call, turn), 202, headers)


def _answer(turn: TurnRecord, headers: dict[str, str]) -> ASGIApp:
    return JSONResponse(answer_object(turn), headers=headers)


async def _state(call: Call, turn: TurnRecord) -> dict[str, object]:
    return state_object(turn, await call.services.engine.state(turn.turn_id))


def _metadata(given: dict[str, Any] | None) -> str | None:
    if given is None:
        return None
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_METADATA_BYTES:
        message = f"must be at most {MAX_METADATA_BYTES} bytes of JSON"
        raise InvalidInput(f"metadata: {message}", errors=(FieldError("metadata", message),))
    return text
