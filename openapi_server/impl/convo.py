"""Talking: `/convo_turn_stream`, `/convo_turn` and the state of a turn."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.bridge import Call, on_loop
from openapi_server.errors import AnimalNotFound, FieldError, InvalidInput, SessionDeleted, TurnNotFound
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.pipeline import Question
from openapi_server.problems import problem_json
from openapi_server.readers import TurnReader
from openapi_server.turn import AgeGroup, Completed, Failed, Started
from openapi_server.visitors import Visitor, identify
from openapi_server.wire.convo_json import answer_object, state_object
from openapi_server.wire.timestamps import iso_millis

MAX_METADATA_BYTES = 4096


@on_loop
async def convo_turn_stream(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _converse(call, body, is_stream=body.get("stream", True))


@on_loop
async def convo_turn(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _converse(call, body, is_stream=body.get("stream", False))


@on_loop
async def get_convo_turn(call: Call, turn_id: str) -> ASGIApp:
    return JSONResponse(await _state(call, turn_id))


async def _converse(call: Call, body: dict[str, Any], *, is_stream: bool) -> ASGIApp:
    visitor = identify(call)
    engine = call.services.engine
    started = await engine.start(_question(call, body, visitor))
    if "respond-async" in call.preferences:
        return await _accepted(call, started, visitor)
    reader = await engine.read(started.turn_id)
    if is_stream:
        return _streamed(call, reader, visitor)
    with reader:
        return _answered(call, started, await reader.to_end(), visitor)


def _question(call: Call, body: dict[str, Any], visitor: Visitor) -> Question:
    animal = call.services.knowledge.animal(body["animalId"])
    if animal is None or animal.status != "active":
        raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
    return Question(
        animal=animal,
        message=body["message"],
        age_group=AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)),
        session_id=body.get("sessionId"),
        owner=visitor.owner,
        context_summary=body.get("contextSummary"),
        metadata=_metadata(body.get("metadata")),
    )


def _metadata(given: dict[str, Any] | None) -> str | None:
    if given is None:
        return None
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_METADATA_BYTES:
        message = f"must be at most {MAX_METADATA_BYTES} bytes of JSON"
        raise InvalidInput(f"metadata: {message}", errors=(FieldError("metadata", message),))
    return text


async def _accepted(call: Call, started: Started, visitor: Visitor) -> ASGIApp:
    location = f"/convo_turn/{started.turn_id}"
    headers = {"Location": location, "Preference-Applied": "respond-async", **visitor.headers}
    return JSONResponse(await _state(call, started.turn_id), 202, headers)


def _streamed(call: Call, reader: TurnReader, visitor: Visitor) -> ASGIApp:
    streamer = SSEStreamer(heartbeat_s=call.services.settings.heartbeat_s, clock=call.services.clock)
    headers = {"X-Streaming-Session-Id": reader.turn_id, **visitor.headers}
    return streamer.create_sse_response(streamer.stream_turn(reader), headers)


def _answered(call: Call, started: Started, ending: Completed | Failed | None, visitor: Visitor) -> ASGIApp:
    match ending:
        case Completed() as completed:
            timestamp = iso_millis(call.services.clock.now())
            return JSONResponse(answer_object(started, completed, timestamp), headers=visitor.headers)
        case Failed(problem=problem):
            retry = {"Retry-After": "2"} if problem.retryable else {}
            return problem_json(problem, {**retry, **visitor.headers})
    raise SessionDeleted


async def _state(call: Call, turn_id: str) -> dict[str, object]:
    turn = await call.services.store.turn(turn_id)
    if turn is None:
        raise TurnNotFound
    return state_object(turn, await call.services.engine.state(turn_id))
