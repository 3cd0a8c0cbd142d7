"""Resumed streams: what `Last-Event-ID` names, whether the caller may read on, and the events behind it."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp

from openapi_server.engine.turn_reader import TurnReader
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.authorization import Access, get_authorized_turn
from openapi_server.impl.turn_requests import mask_text
from openapi_server.impl.turn_responses import make_stream_response
from openapi_server.instruments import ResumeResult
from openapi_server.models.errors import ChatError, FieldError, InvalidInput, LogGone, ResumeMismatch
from openapi_server.models.turn import TurnRecord, TurnStatus
from openapi_server.wire.sse import Contract, parse_event_id


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


def parse_resume_position(turn_id: str, last_seen: str | None) -> int:
    """The sequence number after which to read. `last_seen` is an event id of this turn, or only its number."""
    if last_seen is None:
        return 0
    seq = int(last_seen) if re.fullmatch(r"[0-9]{1,9}", last_seen, re.ASCII) else parse_event_id(last_seen, turn_id)
    if seq is None:
        message = "is not the id of an event of this turn"
        raise InvalidInput(f"Last-Event-ID {message}.", errors=(FieldError("Last-Event-ID", message),))
    return seq
