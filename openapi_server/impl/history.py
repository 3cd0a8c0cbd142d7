"""What was said before: a session's history, the caller's sessions, summaries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.http.authorization import Doing, session_for
from openapi_server.http.identity import known_owner
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.models.audit import Deed, short_id
from openapi_server.models.errors import SessionNotFound
from openapi_server.models.session import SessionRecord, TurnRecord
from openapi_server.models.summary import Summary, summarize
from openapi_server.protocols import Store
from openapi_server.wire.history import history_object, session_object

TURNS_A_PAGE = 100
SUMMARIZED_TURNS = 200
DEFAULT_SUMMARY_LENGTH = 500
LISTED_SUMMARY_LENGTH = 160


@on_loop
async def get_convo_history(call: Call, session_id: str, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    session = await session_for(call, session_id, Doing.READ)
    if call.best_of("application/json", "text/event-stream") == "text/event-stream":
        streamer = SSEStreamer()
        turns = _all_turns(call.services.store, session_id)
        return streamer.create_sse_response(streamer.stream_conversation_history(session, turns))
    page = await call.services.store.turns_of(session_id, limit, cursor)
    return JSONResponse(history_object(session, page))


@on_loop
async def delete_convo_history(call: Call, session_id: str) -> ASGIApp:
    session = await session_for(call, session_id, Doing.CHANGE)
    await delete_session(call, session.session_id)
    return Response(status_code=204)


async def delete_session(call: Call, session_id: str) -> None:
    """Forget it with all its turns, those included that still run."""
    turn_ids = await call.services.store.delete_session(session_id)
    if turn_ids is None:
        raise SessionNotFound
    await call.services.engine.forget(turn_ids)
    await noted(call, Deed.SESSION_DELETED, short_id(session_id))


@on_loop
async def list_sessions(call: Call, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    owner = known_owner(call)
    if owner is None:
        return JSONResponse({"sessions": [], "nextCursor": None})
    page = await call.services.store.sessions_of(owner, limit, cursor)
    sessions = [await _described(call, session) for session in page.items]
    return JSONResponse({"sessions": sessions, "nextCursor": page.next_cursor})


@on_loop
async def get_session(call: Call, session_id: str) -> ASGIApp:
    return JSONResponse(await _described(call, await session_for(call, session_id, Doing.READ)))


@on_loop
async def summarize_convo(call: Call, body: dict[str, Any]) -> ASGIApp:
    session = await session_for(call, body["sessionId"], Doing.READ)
    summary = await _summary(call, session, body.get("maxLength", DEFAULT_SUMMARY_LENGTH))
    return JSONResponse(
        {
            "sessionId": session.session_id,
            "summary": summary.text,
            "topics": list(summary.topics),
            "messageCount": summary.message_count,
        }
    )


async def _described(call: Call, session: SessionRecord) -> dict[str, object]:
    animal = call.services.knowledge.animal(session.animal_id)
    summary = await _summary(call, session, LISTED_SUMMARY_LENGTH)
    return session_object(session, animal.name if animal else session.animal_id, summary)


async def _summary(call: Call, session: SessionRecord, max_length: int) -> Summary:
    turns = await call.services.store.latest_turns(session.session_id, SUMMARIZED_TURNS)
    return summarize(turns, max_length)


async def _all_turns(store: Store, session_id: str) -> AsyncIterator[TurnRecord]:
    cursor: str | None = None
    while True:
        page = await store.turns_of(session_id, TURNS_A_PAGE, cursor)
        for turn in page.items:
            yield turn
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
