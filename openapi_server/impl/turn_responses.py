"""How a turn is read, in whichever contract: streamed, resumed where a reader was cut off, or awaited whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.authorization import Access, get_authorized_turn
from openapi_server.http.disconnect import run_until_disconnect
from openapi_server.http.problems import make_problem_response
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.models.errors import FieldError, InvalidInput, LogGone, ResumeMismatch, SessionDeleted
from openapi_server.models.turn import TurnRecord
from openapi_server.wire.sse import Contract, parse_event_id

NO_HEADERS: Mapping[str, str] = {}


async def start_stream(
    context: RequestContext, contract: Contract, accepted: AcceptedTurn, headers: Mapping[str, str] = NO_HEADERS
) -> ASGIApp:
    """The turn from its first event."""
    return make_stream_response(context, contract, await context.services.engine.open_reader(accepted.turn_id), headers)


async def resume_stream(
    context: RequestContext, contract: Contract, last_event_id: str, message: str, is_same: Callable[[TurnRecord], bool]
) -> ASGIApp:
    """The same POST again, with the last event that came through: it never starts a second turn.

    `is_same` says whether what the request names beside its message is the turn's.
    """
    turn = await get_authorized_turn(context, last_event_id.rpartition("-")[0], Access.READ)
    # The turn's own message is kept without what was personal in it.
    if turn.message != context.services.moderator.mask_pii(message) or not is_same(turn):
        raise ResumeMismatch("Repeat the request as it was, or leave Last-Event-ID out to ask anew.")
    return await continue_stream(context, contract, turn.turn_id, last_event_id)


def is_in_session(session_id: str, turn: TurnRecord) -> bool:
    return turn.session_id == session_id


async def continue_stream(context: RequestContext, contract: Contract, turn_id: str, last_seen: str | None) -> ASGIApp:
    """The turn's events after the last one seen; 204 when it has ended and there are none."""
    reader = await context.services.engine.open_reader(turn_id, parse_resume_position(turn_id, last_seen))
    if reader.is_over:
        with reader:
            return Response(status_code=204)
    return make_stream_response(context, contract, reader)


def make_stream_response(
    context: RequestContext, contract: Contract, reader: TurnReader, headers: Mapping[str, str] = NO_HEADERS
) -> ASGIApp:
    settings = context.services.settings
    streamer = SSEStreamer(contract, heartbeat_s=settings.heartbeat_s, clock=context.services.clock)
    return streamer.create_sse_response(
        streamer.stream_turn(reader),
        {"X-Streaming-Session-Id": reader.turn_id, **headers},
        send_timeout_s=settings.send_timeout_s,
    )


def parse_resume_position(turn_id: str, last_seen: str | None) -> int:
    """The place in the turn's log after which to read: an event id of this turn, or only its number."""
    if last_seen is None:
        return 0
    place = int(last_seen) if re.fullmatch(r"[0-9]{1,9}", last_seen, re.ASCII) else parse_event_id(last_seen, turn_id)
    if place is None:
        message = "is not the id of an event of this turn"
        raise InvalidInput(f"Last-Event-ID {message}.", errors=(FieldError("Last-Event-ID", message),))
    return place


class WholeTurnResponse:
    """ASGI answer that waits for the end of the turn, as one of its readers: a client that leaves is noticed.

    `shape` makes the answer of a turn that has not failed, from its stored record.
    """

    def __init__(
        self,
        context: RequestContext,
        accepted: AcceptedTurn,
        shape: Callable[[TurnRecord], ASGIApp],
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self._call = context
        self._accepted = accepted
        self._render_turn = shape
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = await run_until_disconnect(receive, self._wait_for_end())
        if turn is not None:
            await self._render(turn)(scope, receive, send)

    async def _wait_for_end(self) -> TurnRecord | SessionDeleted:
        turn_id = self._accepted.turn_id
        # No log: an idempotency key of long ago, whose stored turn is all there is, and all that is needed.
        with suppress(LogGone), await self._call.services.engine.open_reader(turn_id) as reader:
            await reader.read_to_end()
        return await self._call.services.store.get_turn(turn_id) or SessionDeleted()

    def _render(self, turn: TurnRecord | SessionDeleted) -> ASGIApp:
        if isinstance(turn, SessionDeleted):
            return make_problem_response(turn.problem)
        problem = turn.outcome.problem if turn.outcome else None
        if problem is None:
            return self._render_turn(turn)
        retry = {"Retry-After": "2"} if problem.retryable else {}
        return make_problem_response(problem, {**retry, **self._headers})
