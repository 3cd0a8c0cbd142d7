"""Conversation history: a session's messages, the caller's sessions, and summaries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.authorization import Access, authorize_listing, find_token_session
from openapi_server.http.identity import choose_session_id, find_owner
from openapi_server.http.named_sessions import find_convo_session
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.impl.turn_requests import delete_session
from openapi_server.insulting_names import has_insulting_word
from openapi_server.models.errors import InvalidInput
from openapi_server.models.page import Page
from openapi_server.models.session import SessionFilter, SessionRecord
from openapi_server.models.summary import Summary, summarize
from openapi_server.models.turn import TurnRecord
from openapi_server.protocols import Knowledge, Store
from openapi_server.wire.history import encode_history, encode_messages, encode_session
from openapi_server.worker_threads import run_by_size

TURNS_PER_PAGE = 100
MAX_SUMMARIZED_TURNS = 200
DEFAULT_SUMMARY_LENGTH = 500
LISTED_SUMMARY_LENGTH = 160
DAY_LENGTH = len("2026-11-21")
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
    return JSONResponse(encode_history(shown, page, is_first=cursor is None))


@async_handler
async def delete_convo_history(context: RequestContext, session_id: str | None = None) -> ASGIApp:
    session = await find_convo_session(context, _require_session_id(context, session_id), Access.DELETE)
    await delete_session(context, session.session_id)
    return Response(status_code=204)


@async_handler
async def list_sessions(
    context: RequestContext,
    limit: int = 50,
    cursor: str | None = None,
    user_id: str | None = None,
    animal_id: str | None = None,
    from_: str | None = None,
    to: str | None = None,
) -> ASGIApp:
    only = SessionFilter(animal_id, _parse_time("from", from_), _parse_time("to", to, is_end=True))
    owner = find_owner(context) if user_id is None else await authorize_listing(context, user_id)
    if owner is None:
        session = await find_token_session(context)
        page = Page((session,) if session and only.matches(session) else ())
    else:
        page = await context.services.store.list_sessions(owner, limit, cursor, only)
    counts = await context.services.store.count_messages([session.session_id for session in page.items])
    # The caller's own, under the names that they know them by.
    is_own = owner == find_owner(context)
    sessions = [
        await _describe_session(context, session, counts[session.session_id], session.name if is_own else None)
        for session in page.items
    ]
    return JSONResponse({"sessions": sessions, "nextCursor": page.next_cursor})


@async_handler
async def get_session(
    context: RequestContext,
    session_id: str,
    include: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> ASGIApp:
    session = await find_convo_session(context, session_id, Access.READ)
    store = context.services.store
    counts = await store.count_messages([session.session_id])
    body = await _describe_session(context, session, counts[session.session_id], session_id)
    if include == "turns":
        page = await store.list_turns(session.session_id, limit, cursor)
        body |= {
            "turns": encode_messages(session, page, is_first=cursor is None),
            "nextCursor": page.next_cursor,
        }
    return JSONResponse(body)


@async_handler
async def summarize_convo(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    session = await find_convo_session(context, body["sessionId"], Access.READ)
    summary = await _summarize_session(context, session, body.get("maxLength", DEFAULT_SUMMARY_LENGTH))
    counts = await context.services.store.count_messages([session.session_id])
    return JSONResponse(
        {
            "sessionId": body["sessionId"],
            "summary": summary.text,
            "topics": list(summary.topics),
            "messageCount": counts[session.session_id],
        }
    )


def _require_session_id(context: RequestContext, query: str | None) -> str:
    session_id = choose_session_id(context, query)
    if session_id is None:
        raise InvalidInput.for_field("sessionId", "is required, in the query or in the header X-Session-Id")
    return session_id


def _parse_time(field: str, text: str | None, *, is_end: bool = False) -> datetime | None:
    """The time that the parameter names: a time, or a day (UTC), which as an end is a whole one."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        is_day = len(text) == DAY_LENGTH
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC) + timedelta(days=is_day and is_end)
    except (ValueError, OverflowError):
        raise InvalidInput.for_field(field, "is no time of the calendar") from None


async def _describe_session(
    context: RequestContext, session: SessionRecord, message_count: int, shown_id: str | None
) -> dict[str, object]:
    """The session; `shown_id` is what the caller calls it, None where that is its own id."""
    animal = context.services.knowledge.get_animal(session.animal_id)
    summary = await _summarize_session(context, session, LISTED_SUMMARY_LENGTH)
    shown = replace(session, session_id=shown_id or session.session_id)
    return encode_session(shown, animal.name if animal else session.animal_id, summary, message_count)


async def _summarize_session(context: RequestContext, session: SessionRecord, max_length: int) -> Summary:
    turns = await context.services.store.list_latest_turns(session.session_id, MAX_SUMMARIZED_TURNS)
    size = sum(len(turn.message) + len(turn.outcome.reply or "") for turn in turns if turn.outcome)
    facts = _list_facts(context.services.knowledge, turns)
    return await run_by_size(size, partial(summarize, turns, max_length, facts, _may_quote), MAX_INLINE_SUMMARY)


def _list_facts(knowledge: Knowledge, turns: Sequence[TurnRecord]) -> dict[str, str]:
    """All that the animals of these turns say of each of their facts, as it is known now."""
    animals = [knowledge.get_animal(animal_id) for animal_id in {turn.animal_id for turn in turns}]
    told = {source.fact_id for turn in turns if turn.outcome for source in turn.outcome.sources}
    return {
        fact.fact_id: " ".join(filter(None, (fact.say, fact.text, fact.little, fact.detail, fact.why)))
        for animal in animals
        if animal is not None
        for fact in animal.facts
        if fact.fact_id in told
    }


def _may_quote(message: str) -> bool:
    return not has_insulting_word(message)


async def _iterate_turns(store: Store, session_id: str) -> AsyncIterator[TurnRecord]:
    cursor: str | None = None
    while True:
        page = await store.list_turns(session_id, TURNS_PER_PAGE, cursor)
        for turn in page.items:
            yield turn
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
