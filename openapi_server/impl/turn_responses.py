"""How a turn is read, in whichever contract: streamed, resumed where a reader was cut off, or awaited whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server.engine.turn_engine import Accepted
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.http.async_handlers import Call
from openapi_server.http.authorization import Doing, turn_for
from openapi_server.http.disconnect import unless_left
from openapi_server.http.problems import problem_json
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.models.errors import FieldError, InvalidInput, LogGone, ResumeMismatch, SessionDeleted
from openapi_server.models.session import TurnRecord
from openapi_server.wire.sse import Contract, sequence_of

NO_HEADERS: Mapping[str, str] = {}


async def streamed(
    call: Call, contract: Contract, accepted: Accepted, headers: Mapping[str, str] = NO_HEADERS
) -> ASGIApp:
    """The turn from its first event."""
    return stream_of(call, contract, await call.services.engine.read(accepted.turn_id), headers)


async def resumed(
    call: Call, contract: Contract, last_event_id: str, message: str, is_same: Callable[[TurnRecord], bool]
) -> ASGIApp:
    """The same POST again, with the last event that came through: it never starts a second turn.

    `is_same` says whether what the request names beside its message is the turn's.
    """
    turn = await turn_for(call, last_event_id.rpartition("-")[0], Doing.READ)
    # The turn's own message is kept without what was personal in it.
    if turn.message != call.services.moderator.masked(message) or not is_same(turn):
        raise ResumeMismatch("Repeat the request as it was, or leave Last-Event-ID out to ask anew.")
    return await attached(call, contract, turn.turn_id, last_event_id)


def is_in(session_id: str, turn: TurnRecord) -> bool:
    return turn.session_id == session_id


async def attached(call: Call, contract: Contract, turn_id: str, last_seen: str | None) -> ASGIApp:
    """The turn's events after the last one seen; 204 when it has ended and there are none."""
    reader = await call.services.engine.read(turn_id, place_after(turn_id, last_seen))
    if reader.is_over:
        with reader:
            return Response(status_code=204)
    return stream_of(call, contract, reader)


def stream_of(call: Call, contract: Contract, reader: TurnReader, headers: Mapping[str, str] = NO_HEADERS) -> ASGIApp:
    settings = call.services.settings
    streamer = SSEStreamer(contract, heartbeat_s=settings.heartbeat_s, clock=call.services.clock)
    return streamer.create_sse_response(
        streamer.stream_turn(reader),
        {"X-Streaming-Session-Id": reader.turn_id, **headers},
        send_timeout_s=settings.send_timeout_s,
    )


def place_after(turn_id: str, last_seen: str | None) -> int:
    """The place in the turn's log after which to read: an event id of this turn, or only its number."""
    if last_seen is None:
        return 0
    place = int(last_seen) if re.fullmatch(r"[0-9]{1,9}", last_seen, re.ASCII) else sequence_of(last_seen, turn_id)
    if place is None:
        message = "is not the id of an event of this turn"
        raise InvalidInput(f"Last-Event-ID {message}.", errors=(FieldError("Last-Event-ID", message),))
    return place


class WholeAnswer:
    """ASGI answer that waits for the end of the turn, as one of its readers: a client that leaves is noticed.

    `shape` makes the answer of a turn that has not failed, from its stored record.
    """

    def __init__(
        self,
        call: Call,
        accepted: Accepted,
        shape: Callable[[TurnRecord], ASGIApp],
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self._call = call
        self._accepted = accepted
        self._shape = shape
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = await unless_left(receive, self._ended())
        if turn is not None:
            await self._shaped(turn)(scope, receive, send)

    async def _ended(self) -> TurnRecord | SessionDeleted:
        turn_id = self._accepted.turn_id
        # No log: an idempotency key of long ago, whose stored turn is all there is, and all that is needed.
        with suppress(LogGone), await self._call.services.engine.read(turn_id) as reader:
            await reader.to_end()
        return await self._call.services.store.turn(turn_id) or SessionDeleted()

    def _shaped(self, turn: TurnRecord | SessionDeleted) -> ASGIApp:
        if isinstance(turn, SessionDeleted):
            return problem_json(turn.problem)
        problem = turn.outcome.problem if turn.outcome else None
        if problem is None:
            return self._shape(turn)
        retry = {"Retry-After": "2"} if problem.retryable else {}
        return problem_json(problem, {**retry, **self._headers})
