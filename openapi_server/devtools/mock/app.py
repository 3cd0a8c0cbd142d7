"""The stand-in's addresses: those of the platform's contract, and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from openapi_server import __version__
from openapi_server.devtools.mock.asking import MockVisitor, VisitorCookies, load_validator, parse_body
from openapi_server.devtools.mock.origins import MockCors
from openapi_server.devtools.mock.scripts import Script, play_answer, play_failure, play_timeout
from openapi_server.devtools.mock.turns import MockRequest, MockTurns
from openapi_server.devtools.terminal import escape_control_characters
from openapi_server.event_logs.memory import MemoryTail
from openapi_server.models.errors import ChatError, InvalidInput, MethodNotAllowed, NotFound
from openapi_server.models.turn_events import Entry
from openapi_server.wire.platform import PLATFORM, encode_accepted, encode_job, parse_job_id
from openapi_server.wire.problem import PROBLEM_JSON, encode_problem
from openapi_server.wire.sse import STREAM_HEADERS, Frame, encode_retry
from openapi_server.wire.timestamps import format_timestamp

SCRIPTS: dict[str, Script] = {
    "/api/v1/stream": play_answer,
    "/api/v1/stream/error": play_failure,
    "/api/v1/stream/timeout": play_timeout,
}

log = logging.getLogger(__name__)


def create_mock(turns: MockTurns) -> Starlette:
    """The application over the given turns."""
    load_validator()
    mock = _Mock(turns)
    return Starlette(
        routes=[
            *(Route(path, mock.ask, methods=["POST"]) for path in SCRIPTS),
            Route("/jobs", mock.jobs),
            Route("/jobs/{job_id}", mock.job),
            Route("/api/v1/jobs/{job_id}", mock.job),
            Route("/health", mock.health),
        ],
        exception_handlers={ChatError: _problem, HTTPException: _frameworks_problem, Exception: _unexpected},
        middleware=[Middleware(MockCors)],
    )


class _Mock:
    """The operations."""

    def __init__(self, turns: MockTurns) -> None:
        self._turns = turns
        self._visitors = VisitorCookies()

    async def ask(self, request: Request) -> Response:
        """A question: as a stream, or with `?mode=job` as a job; with `Last-Event-ID` the rest of a stream."""
        body = await parse_body(request)
        _log_question(body["query"], body.get("conversation_history", []))
        visitor = self._visitors.identify(request)
        log.info("%s session: %s", "✅ Created new" if visitor.is_new else "🔑 Reused", visitor.cookie)
        key = request.headers.get("idempotency-key")
        asked = MockRequest(visitor.cookie, body["query"], SCRIPTS[request.url.path], key)
        last_event_id = request.headers.get("last-event-id")
        if last_event_id:
            return await self._resumed(last_event_id, asked)
        return await self._begun(asked, visitor, mode=request.query_params.get("mode", "stream"))

    async def _begun(self, asked: MockRequest, visitor: MockVisitor, *, mode: str) -> Response:
        if mode == "job":
            log.info("📋 Using job polling mode")
            return JSONResponse(encode_accepted(await self._turns.start_turn(asked)), headers=visitor.headers)
        if mode != "stream":
            raise InvalidInput("mode: must be one of stream, job")
        log.info("📡 Using SSE streaming mode")
        turn_id = await self._turns.start_turn(asked)
        return self._streamed(turn_id, await self._turns.open_tail(turn_id), visitor.headers)

    async def _resumed(self, last_event_id: str, asked: MockRequest) -> Response:
        log.info("📡 Resuming after %s", escape_control_characters(last_event_id))
        turn_id, tail = await self._turns.resume(last_event_id, asked)
        if tail.is_over:
            tail.close()
            return Response(status_code=204)
        return self._streamed(turn_id, tail, {})

    def _streamed(self, turn_id: str, tail: MemoryTail, headers: Mapping[str, str]) -> Response:
        told = {**STREAM_HEADERS, "X-Streaming-Session-Id": turn_id, **headers}
        return StreamingResponse(self._pieces(tail), headers=told)

    async def _pieces(self, tail: MemoryTail) -> AsyncGenerator[str, None]:
        lead = encode_retry()
        async for entries in self._turns.read_batches(tail):
            text = "".join(frame.text for entry in entries for frame in _logged(entry))
            # Entries that this contract has no word for are no silence, and no news.
            if text or not entries:
                yield lead + (text or _heartbeat())
                lead = ""

    async def job(self, request: Request) -> Response:
        turn_id = parse_job_id(request.path_params["job_id"])
        job = encode_job(*await self._turns.get_turn(turn_id, self._visitors.find_cookie(request)))
        log.info("📊 Job status: %s %s", job["status"], json.dumps(job["latest_progress"]))
        return JSONResponse(job)

    async def jobs(self, request: Request) -> Response:
        """The visitor's own."""
        visitor = self._visitors.find_cookie(request)
        jobs = [
            encode_job(*await self._turns.get_turn(turn_id, visitor)) for turn_id in self._turns.list_turn_ids(visitor)
        ]
        return JSONResponse({"jobs": jobs, "next_cursor": None})

    async def health(self, request: Request) -> Response:
        now = format_timestamp(datetime.now(UTC))
        return JSONResponse(
            {"status": "healthy", "version": __version__, "timestamp": now, "active_jobs": self._turns.active_count}
        )


def _log_question(query: str, history: list[object]) -> None:
    log.info("Received request - Query: %s", escape_control_characters(query))
    if history:
        log.info("Conversation history: %d messages", len(history))


def _logged(entry: Entry) -> list[Frame]:
    frames = list(PLATFORM.encode(entry))
    for frame in frames:
        log.info("SSE -> %s: %s", frame.event, json.dumps(frame.data))
    return frames


def _heartbeat() -> str:
    log.info("SSE -> heartbeat")
    return PLATFORM.heartbeat(None, 0)


def _problem(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, ChatError) else ChatError()
    log.info("❌ %d %s", known.status, known.detail)
    return JSONResponse(encode_problem(known.problem), known.status, known.headers, PROBLEM_JSON)


def _frameworks_problem(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _problem(request, {404: NotFound(), 405: MethodNotAllowed()}.get(status, ChatError()))


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return _problem(request, ChatError())
