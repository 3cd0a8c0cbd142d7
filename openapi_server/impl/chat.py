"""The token stream's contract: `/chat`, where the client names the session and stops by leaving."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_request import Place, Question
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.identity import known_owner, scope_of, session_named
from openapi_server.impl.turn_requests import animal_named, idempotency_keys
from openapi_server.impl.turn_responses import WholeAnswer, is_in, resumed, streamed
from openapi_server.models.animal import Animal
from openapi_server.models.session import TurnRecord
from openapi_server.wire.chat import TOKENS, answer_object


@on_loop
async def chat(call: Call, body: dict[str, Any]) -> ASGIApp:
    chosen = body["session_id"]
    session_id = session_named(call, "tokens", scope_of(call, chosen), chosen)
    is_stream = body.get("streaming", _prefers_stream(call))
    last_event_id = call.headers.get("last-event-id")
    if is_stream and last_event_id:
        return await resumed(call, TOKENS, last_event_id, body["message"], partial(is_in, session_id))
    question = Question(
        animal=await _animal(call, body, session_id),
        message=body["message"],
        place=Place(session_id, known_owner(call), is_chosen=True),
        is_cancelled_on_disconnect=body.get("onDisconnect", "cancel") == "cancel",
        is_read_whole=not is_stream,
    )
    accepted = await call.services.engine.start(question, idempotency_keys(call, body))
    if is_stream:
        return await streamed(call, TOKENS, accepted)
    return WholeAnswer(call, accepted, partial(_answer, chosen))


def _prefers_stream(call: Call) -> bool:
    return call.best_of("text/event-stream", "application/json") == "text/event-stream"


async def _animal(call: Call, body: dict[str, Any], session_id: str) -> Animal:
    """Who is asked: the animal that is named, else the session's, else the zoo's default."""
    if "animal_id" in body:
        return await animal_named(call, body["animal_id"])
    session = await call.services.store.session(session_id)
    return await animal_named(call, session.animal_id if session else call.services.settings.default_animal)


def _answer(chosen: str, turn: TurnRecord) -> ASGIApp:
    return JSONResponse(answer_object(turn, chosen))
