"""The ways to answer with a turn: as a stream from the start, or as JSON when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.disconnect import AwaitedResponse
from openapi_server.http.error_handlers import make_error_response, make_problem_response
from openapi_server.impl.streaming_response import RECONNECT_SPREAD_MS, SSEStreamer
from openapi_server.models.errors import (
    ChatError,
    LogGone,
    Problem,
    SessionDeleted,
    TurnElsewhere,
)
from openapi_server.models.turn import TurnRecord
from openapi_server.models.turn_events import Completed, Failed
from openapi_server.wire.sse import Contract

NO_HEADERS: Mapping[str, str] = {}


async def start_stream(
    context: RequestContext, contract: Contract, accepted: AcceptedTurn, headers: Mapping[str, str] = NO_HEADERS
) -> ASGIApp:
    """The turn as a stream, from its first event."""
    return make_stream_response(context, contract, await context.services.engine.open_reader(accepted.turn_id), headers)


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
