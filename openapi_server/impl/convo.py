"""Talking: `/convo_turn_stream`, `/convo_turn`, and what one can do with a turn once it was begun."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.engine.readers import TurnReader
from openapi_server.engine.turn_engine import Accepted
from openapi_server.errors import LogGone, ResumeMismatch, SessionDeleted
from openapi_server.http.bridge import Call, on_loop
from openapi_server.http.leaving import unless_left
from openapi_server.http.problems import problem_json
from openapi_server.http.visitors import Visitor, identify
from openapi_server.impl.questions import idempotency_keys, place_after, question_of
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.records import TurnRecord
from openapi_server.wire.convo_json import answer_object, state_object, stopped_object


@on_loop
async def convo_turn_stream(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _converse(call, body, is_stream=body.get("stream", True))


@on_loop
async def convo_turn(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _converse(call, body, is_stream=body.get("stream", False))


@on_loop
async def get_convo_turn(call: Call, turn_id: str) -> ASGIApp:
    return JSONResponse(await _state(call, turn_id))


@on_loop
async def stream_convo_turn(call: Call, turn_id: str, after: str | None = None) -> ASGIApp:
    # The log may outlive its session: the store says whether there is such a turn.
    turn = await call.services.engine.turn(turn_id)
    return await _attached(call, turn.turn_id, call.headers.get("last-event-id") or after)


@on_loop
async def stop_convo_turn(call: Call, turn_id: str) -> ASGIApp:
    began_s = call.services.clock.monotonic()
    turn = await call.services.engine.stop(turn_id)
    took_ms = round((call.services.clock.monotonic() - began_s) * 1000)
    return JSONResponse(stopped_object(turn, took_ms))


async def _converse(call: Call, body: dict[str, Any], *, is_stream: bool) -> ASGIApp:
    last_event_id = call.headers.get("last-event-id")
    if is_stream and last_event_id:
        return await _resumed(call, body, last_event_id)
    visitor = identify(call)
    keys = idempotency_keys(call, body, visitor)
    accepted = await call.services.engine.start(question_of(call, body, visitor), keys)
    if "respond-async" in call.preferences:
        return await _accepted(call, accepted, visitor)
    if is_stream:
        return _streamed(call, await call.services.engine.read(accepted.turn_id), visitor.headers)
    return WholeAnswer(call, accepted, visitor)


async def _resumed(call: Call, body: dict[str, Any], last_event_id: str) -> ASGIApp:
    """The same POST again, with the last event that came through: it never starts a second turn."""
    turn_id = last_event_id.rpartition("-")[0]
    turn = await call.services.engine.turn(turn_id)
    is_same = (turn.message, turn.animal_id) == (body["message"], body["animalId"])
    if not is_same or body.get("sessionId", turn.session_id) != turn.session_id:
        raise ResumeMismatch("Repeat the request as it was, or leave Last-Event-ID out to ask anew.")
    return await _attached(call, turn_id, last_event_id)


async def _attached(call: Call, turn_id: str, last_seen: str | None) -> ASGIApp:
    """The turn's events after the last one seen; 204 when it has ended and there are none."""
    reader = await call.services.engine.read(turn_id, place_after(turn_id, last_seen))
    if reader.is_over:
        with reader:
            return Response(status_code=204)
    return _streamed(call, reader, {})


async def _accepted(call: Call, accepted: Accepted, visitor: Visitor) -> ASGIApp:
    location = f"/convo_turn/{accepted.turn_id}"
    headers = {"Location": location, "Preference-Applied": "respond-async", **visitor.headers}
    return JSONResponse(await _state(call, accepted.turn_id), 202, headers)


def _streamed(call: Call, reader: TurnReader, headers: dict[str, str]) -> ASGIApp:
    settings = call.services.settings
    streamer = SSEStreamer(heartbeat_s=settings.heartbeat_s, clock=call.services.clock)
    return streamer.create_sse_response(
        streamer.stream_turn(reader),
        {"X-Streaming-Session-Id": reader.turn_id, **headers},
        send_timeout_s=settings.send_timeout_s,
    )


class WholeAnswer:
    """ASGI answer that waits for the end of the turn, as one of its readers: a client that leaves is noticed."""

    def __init__(self, call: Call, accepted: Accepted, visitor: Visitor) -> None:
        self._call = call
        self._accepted = accepted
        self._headers = visitor.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = await unless_left(receive, self._ended())
        if turn is not None:
            await self._shaped(turn)(scope, receive, send)

    async def _ended(self) -> TurnRecord | SessionDeleted:
        try:
            with await self._call.services.engine.read(self._accepted.turn_id) as reader:
                await reader.to_end()
        except LogGone:
            # An idempotency key of long ago: the stored turn is all there is, and all that is needed.
            pass
        return await self._call.services.store.turn(self._accepted.turn_id) or SessionDeleted()

    def _shaped(self, turn: TurnRecord | SessionDeleted) -> ASGIApp:
        if isinstance(turn, SessionDeleted):
            return problem_json(turn.problem)
        problem = turn.outcome.problem if turn.outcome else None
        if problem is None:
            return JSONResponse(answer_object(turn), headers=self._headers)
        retry = {"Retry-After": "2"} if problem.retryable else {}
        return problem_json(problem, {**retry, **self._headers})


async def _state(call: Call, turn_id: str) -> dict[str, object]:
    turn = await call.services.engine.turn(turn_id)
    return state_object(turn, await call.services.engine.state(turn_id))
