"""The ways to answer with a turn: as a stream from the start, as a resumed stream, or as JSON when it has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.authorization import Access, get_authorized_turn
from openapi_server.http.disconnect import AwaitedResponse
from openapi_server.http.error_handlers import make_error_response, make_problem_response
from openapi_server.impl.streaming_response import RECONNECT_SPREAD_MS, SSEStreamer
from openapi_server.impl.turn_requests import mask_text
from openapi_server.instruments import ResumeResult
from openapi_server.models.errors import (
    ChatError,
    FieldError,
    InvalidInput,
    LogGone,
    Problem,
    ResumeMismatch,
    SessionDeleted,
    TurnElsewhere,
)
from openapi_server.models.turn import TurnRecord, TurnStatus
from openapi_server.models.turn_events import Completed, Failed
from openapi_server.wire.sse import Contract, parse_event_id

NO_HEADERS: Mapping[str, str] = {}


async def start_stream(
    context: RequestContext, contract: Contract, accepted: AcceptedTurn, headers: Mapping[str, str] = NO_HEADERS
) -> ASGIApp:
    """The turn as a stream, from its first event."""
    return make_stream_response(context, contract, await context.services.engine.open_reader(accepted.turn_id), headers)


async def resume_stream(
    context: RequestContext,
    contract: Contract,
    last_event_id: str,
    message: str,
    is_same: Callable[[TurnRecord], bool],
    named_session_id: str | None = None,
) -> ASGIApp:
    """The rest of the stream for a repeated POST with `Last-Event-ID`. It never starts a second turn.

    `is_same` compares what the request names besides its message with the turn. `named_session_id`: the session that
    the caller has reached by name, and may read. Raises `TurnNotFound`, or
    `ResumeMismatch` when the request is not the turn's.
    """
    try:
        turn = await get_authorized_turn(context, last_event_id.rpartition("-")[0], Access.READ, named_session_id)
        # Messages are stored without personal data, and without the blanks around them.
        if turn.message != await mask_text(context, message) or not is_same(turn):
            raise ResumeMismatch("Repeat the request as it was, or leave Last-Event-ID out to ask anew.")
    except ChatError:
        context.services.instruments.metrics.count_resume(contract.name, ResumeResult.REFUSED)
        raise
    return await continue_stream(context, contract, turn.turn_id, last_event_id)


def is_in_session(session_id: str, turn: TurnRecord) -> bool:
    return turn.session_id == session_id


async def continue_stream(context: RequestContext, contract: Contract, turn_id: str, last_seen: str | None) -> ASGIApp:
    """The stream of the events after the last one that the client has seen; 204 when no event will follow.

    It names the media type, too: `fetch-event-source` looks at nothing else, and would otherwise ask again for ever.
    """
    reader = await _open_reader_after(context, contract, turn_id, last_seen)
    if reader.is_over:
        with reader:
            return Response(status_code=204, media_type="text/event-stream")
    return make_stream_response(context, contract, reader)


async def _open_reader_after(
    context: RequestContext, contract: Contract, turn_id: str, last_seen: str | None
) -> TurnReader:
    result = ResumeResult.WHOLE
    try:
        return await context.services.engine.open_reader(turn_id, parse_resume_position(turn_id, last_seen))
    except LogGone:
        turn = await context.services.engine.get_turn(turn_id)
        is_failed = turn.status is TurnStatus.FAILED
        result = ResumeResult.LOST if is_failed else ResumeResult.PARTIAL
        raise
    except ChatError:
        result = ResumeResult.REFUSED
        raise
    finally:
        if last_seen is not None:
            context.services.instruments.metrics.count_resume(contract.name, result)


def make_stream_response(
    context: RequestContext, contract: Contract, reader: TurnReader, headers: Mapping[str, str] = NO_HEADERS
) -> ASGIApp:
    settings = context.services.settings
    streamer = SSEStreamer(
        contract,
        heartbeat_s=settings.heartbeat_s,
        clock=context.services.clock,
        reconnect_spread_ms=RECONNECT_SPREAD_MS if context.services.event_log.is_shared else 0,
    )
    return streamer.create_sse_response(
        streamer.stream_turn(reader),
        {"X-Streaming-Session-Id": reader.turn_id, **headers},
        send_timeout_s=settings.send_timeout_s,
        # A stream that never began does not close its reader.
        on_end=reader.close,
    )


def parse_resume_position(turn_id: str, last_seen: str | None) -> int:
    """The sequence number after which to read. `last_seen` is an event id of this turn, or only its number."""
    if last_seen is None:
        return 0
    seq = int(last_seen) if re.fullmatch(r"[0-9]{1,9}", last_seen, re.ASCII) else parse_event_id(last_seen, turn_id)
    if seq is None:
        message = "is not the id of an event of this turn"
        raise InvalidInput(f"Last-Event-ID {message}.", errors=(FieldError("Last-Event-ID", message),))
    return seq


def make_turn_response(
    context: RequestContext,
    accepted: AcceptedTurn,
    encode: Callable[[TurnRecord], dict[str, object]],
    headers: Mapping[str, str] = NO_HEADERS,
) -> ASGIApp:
    """The turn as JSON when it has ended, made from the stored turn. A failure is told as its readers were told."""

    async def respond() -> ASGIApp:
        event: Completed | Failed | None = None
        # The log is gone when an old idempotency key stands for the turn. The stored turn is enough.
        with suppress(LogGone), await context.services.engine.open_reader(accepted.turn_id) as reader:
            event = await reader.read_to_end()
        if isinstance(event, Failed):
            # The stored turn need not say so: it may not have been possible to store its end.
            return _make_failed_response(event.problem, headers)
        turn = await context.services.store.get_turn(accepted.turn_id)
        if turn is None:
            return make_problem_response(SessionDeleted().problem)
        if turn.outcome is None:
            raise TurnElsewhere(turn_id=turn.turn_id, retry_after_s=2)
        problem = turn.outcome.problem
        return _make_failed_response(problem, headers) if problem else JSONResponse(encode(turn), headers=headers)

    return AwaitedResponse(respond)


def make_reply_response(
    context: RequestContext,
    accepted: AcceptedTurn,
    encode: Callable[[Completed], dict[str, object]],
    headers: Mapping[str, str] = NO_HEADERS,
) -> ASGIApp:
    """The reply as JSON when the turn has ended, made from the turn's log: the turn may not be in the store."""

    async def respond() -> ASGIApp:
        try:
            reader = await context.services.engine.open_reader(accepted.turn_id)
        except LogGone as error:
            problem = (await context.services.engine.get_turn(accepted.turn_id)).problem
            return _make_failed_response(problem, headers) if problem else make_error_response(error)
        except ChatError as error:
            return make_error_response(error)
        with reader:
            event = await reader.read_to_end() or Failed(SessionDeleted().problem)
        if isinstance(event, Failed):
            return _make_failed_response(event.problem, headers)
        return JSONResponse(encode(event), headers=headers)

    return AwaitedResponse(respond)


def _make_failed_response(problem: Problem, headers: Mapping[str, str]) -> ASGIApp:
    retry = {"Retry-After": "2"} if problem.retryable else {}
    return make_problem_response(problem, {**retry, **headers})
