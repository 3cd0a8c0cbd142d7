"""Conversation history: a session's messages, the caller's sessions, and summaries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.first_names import has_insulting_word
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.authorization import Access, find_token_session
from openapi_server.http.identity import choose_session_id, find_owner
from openapi_server.http.named_sessions import find_convo_session
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.impl.turn_requests import delete_session
from openapi_server.models.errors import InvalidInput
from openapi_server.models.page import Page
from openapi_server.models.session import SessionRecord
from openapi_server.models.summary import Summary, summarize
from openapi_server.models.turn import TurnRecord
from openapi_server.protocols import Store
from openapi_server.wire.history import encode_history, encode_session
from openapi_server.worker_threads import run_by_size

TURNS_PER_PAGE = 100
MAX_SUMMARIZED_TURNS = 200
DEFAULT_SUMMARY_LENGTH = 500
LISTED_SUMMARY_LENGTH = 160
MAX_INLINE_SUMMARY = 4_000
"""Up to so many characters of a conversation are summarized on the event loop, in a millisecond."""


@async_handler
async def get_convo_history(
    context: RequestContext, session_id: str | None = None, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    session_id = _require_session_id(context, session_id)
    session = await find_convo_session(context, session_id, Access.READ)
    shown = replace(session, session_id=session_id)
    if context.choose_media_type("application/json", "text/event-stream") == "text/event-stream":
        streamer = SSEStreamer()
        turns = _iterate_turns(context.services.store, session.session_id)
        return streamer.create_sse_response(streamer.stream_conversation_history(shown, turns))
    page = await context.services.store.list_turns(session.session_id, limit, cursor)
    return JSONResponse(encode_history(shown, page))


@async_handler
async def delete_convo_history(context: RequestContext, session_id: str | None = None) -> ASGIApp:
    session = await find_convo_session(context, _require_session_id(context, session_id), Access.CHANGE)
    await delete_session(context, session.session_id)
    return Response(status_code=204)


@async_handler
async def list_sessions(context: RequestContext, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    owner = find_owner(context)
    if owner is None:
        session = await find_token_session(context)
        page = Page((session,) if session else ())
    else:
        page = await context.services.store.list_sessions(owner, limit, cursor)
    # The caller's own, under the names that they know them by.
    sessions = [await _describe_session(context, session, session.name) for session in page.items]
    return JSONResponse({"sessions": sessions, "nextCursor": page.next_cursor})


@async_handler
async def get_session(context: RequestContext, session_id: str) -> ASGIApp:
    session = await find_convo_session(context, session_id, Access.READ)
    return JSONResponse(await _describe_session(context, session, session_id))


@async_handler
async def summarize_convo(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    session = await find_convo_session(context, body["sessionId"], Access.READ)
    summary = await _summarize_session(context, session, body.get("maxLength", DEFAULT_SUMMARY_LENGTH))
    return JSONResponse(
        {
            "sessionId": body["sessionId"],
            "summary": summary.text,
            "topics": list(summary.topics),
            "messageCount": summary.message_count,
        }
    )


def _require_session_id(context: RequestContext, query: str | None) -> str:
    session_id = choose_session_id(context, query)
    if session_id is None:
        raise InvalidInput.for_field("sessionId", "is required, in the query or in the header X-Session-Id")
    return session_id


async def _describe_session(context: RequestContext, session: SessionRecord, shown_id: str | None) -> dict[str, object]:
    """The session; `shown_id` is what the caller calls it, None where that is its own id."""
    animal = context.services.knowledge.get_animal(session.animal_id)
    summary = await _summarize_session(context, session, LISTED_SUMMARY_LENGTH)
    shown = replace(session, session_id=shown_id or session.session_id)
    return encode_session(shown, animal.name if animal else session.animal_id, summary)


async def _summarize_session(context: RequestContext, session: SessionRecord, max_length: int) -> Summary:
    turns = await context.services.store.list_latest_turns(session.session_id, MAX_SUMMARIZED_TURNS)
    size = sum(len(turn.message) + len(turn.outcome.reply or "") for turn in turns if turn.outcome)
    return await run_by_size(size, partial(_summarize_turns, turns, max_length), MAX_INLINE_SUMMARY)


def _summarize_turns(turns: Sequence[TurnRecord], max_length: int) -> Summary:
    # The word at the end of the quote may go on.
    can_quote = not (turns and has_insulting_word(turns[0].message[: 2 * max_length]))
    return summarize(turns, max_length, can_quote=can_quote)


async def _iterate_turns(store: Store, session_id: str) -> AsyncIterator[TurnRecord]:
    cursor: str | None = None
    while True:
        page = await store.list_turns(session_id, TURNS_PER_PAGE, cursor)
        for turn in page.items:
            yield turn
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
