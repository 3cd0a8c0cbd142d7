"""The mock server: the endpoints of the platform contract over `MockTurns`, and `serve_mock`, which runs them."""

from __future__ import annotations

import json
import logging
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, NamedTuple

import click
import uvicorn
from openapi_schema_validator import OAS30WriteValidator
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import __version__, linear_regex
from openapi_server.config import LOCAL_ORIGINS
from openapi_server.devtools.mock.scripted_answers import ANIMAL, Script, play_answer, play_failure, play_timeout
from openapi_server.devtools.mock.turns import MockRequest, MockTurns
from openapi_server.devtools.terminal import replace_control_characters, replace_unencodable
from openapi_server.event_logs.memory import MemoryTail
from openapi_server.models.errors import (
    AnimalNotFound,
    ChatError,
    FieldError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
)
from openapi_server.models.turn_events import Entry
from openapi_server.spec import PACKAGE, load_spec
from openapi_server.wire.platform import PLATFORM, encode_accepted, encode_job, is_job_mode, parse_job_id
from openapi_server.wire.problem import PROBLEM_JSON, encode_problem
from openapi_server.wire.sse import STREAM_HEADERS, Frame, encode_retry
from openapi_server.wire.timestamps import format_timestamp

SCRIPTS: dict[str, Script] = {
    "/api/v1/stream": play_answer,
    "/api/v1/stream/error": play_failure,
    "/api/v1/stream/timeout": play_timeout,
}
COOKIE = "session_id"
EXPOSED_HEADERS = "X-Streaming-Session-Id, Location, Retry-After, RateLimit, RateLimit-Policy"
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Accept, Content-Type, Idempotency-Key, Last-Event-ID",
}
MakeErrorResponse = Callable[[Request, Exception], Response]
BANNER_WIDTH = 78
SHUTDOWN_GRACE_S = 1

log = logging.getLogger(__name__)


def serve_mock(host: str, port: int, delay_s: float, *, is_minimal: bool = False) -> None:
    """Serve until Ctrl-C or SIGTERM; both end the process with exit code 0. `is_minimal`: see `create_mock_app`."""
    replace_unencodable(sys.stdout, sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s - %(message)s", stream=sys.stderr)
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it has shut down.
        signal.signal(number, lambda number, frame: sys.exit(0))
    turns = MockTurns(delay_s)
    config = uvicorn.Config(
        create_mock_app(turns, is_minimal=is_minimal),
        host=host,
        port=port,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
    )
    MockServer(config, turns).run()


def create_mock_app(turns: MockTurns, *, is_minimal: bool = False) -> Starlette:
    """The ASGI application over the given turns.

    With `is_minimal` it does what the platform's quick start asks, and no more: no event ids and no `retry`, headers
    for resuming and repeating are ignored, an error is `{"error": "..."}`, and there are no CORS headers.
    """
    _load_validator()  # takes a moment, for which the first request would wait
    handlers = _MockHandlers(turns, is_minimal=is_minimal)
    make_error_response = _make_plain_error_response if is_minimal else _make_problem_response
    return Starlette(
        routes=[
            *(Route(path, handlers.start_turn, methods=["POST"]) for path in SCRIPTS),
            Route("/jobs", handlers.list_jobs),
            Route("/jobs/{job_id}", handlers.get_job),
            Route("/api/v1/jobs/{job_id}", handlers.get_job),
            Route("/health", handlers.get_health),
        ],
        exception_handlers={
            ChatError: make_error_response,
            HTTPException: partial(_handle_http_exception, make_error_response),
            Exception: partial(_handle_unexpected_error, make_error_response),
        },
        middleware=[] if is_minimal else [Middleware(MockCors)],
    )


class MockServer(uvicorn.Server):
    """A uvicorn server that prints its address once it listens, and ends open streams when it shuts down."""

    def __init__(self, config: uvicorn.Config, turns: MockTurns) -> None:
        super().__init__(config)
        self._turns = turns

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # The real port, also where --port 0 let the system choose one.
            port = self.servers[0].sockets[0].getsockname()[1]
            # Without `file`, click writes UTF-8 even to terminals of another encoding.
            click.echo(_format_banner(f"http://{self.config.host}:{port}"), file=sys.stdout)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._turns.close()
        await super().shutdown(sockets)


class _MockHandlers:
    """One method for each operation."""

    def __init__(self, turns: MockTurns, *, is_minimal: bool) -> None:
        self._turns = turns
        self._is_minimal = is_minimal
        self._visitors = VisitorCookies()

    async def start_turn(self, request: Request) -> Response:
        """Answer a query as a stream, or with `?mode=job` as a job; with `Last-Event-ID`, resume a stream."""
        body, mode = await parse_body(request), parse_mode(request)
        _log_request(body["query"], body.get("conversation_history", []))
        visitor = self._visitors.identify(request)
        log.info("%s session: %s", "✅ Created new" if visitor.is_new else "🔑 Reused", visitor.cookie)
        headers = Headers() if self._is_minimal else request.headers
        key, last_event_id = headers.get("idempotency-key"), headers.get("last-event-id")
        turn_request = MockRequest(visitor.cookie, body["query"], SCRIPTS[request.url.path], key)
        if last_event_id:
            return await self._resume(last_event_id, turn_request)
        return await self._start(turn_request, visitor, mode=mode)

    async def list_jobs(self, request: Request) -> Response:
        """The jobs of the visitor whose cookie came along."""
        visitor = self._visitors.find_cookie(request)
        turn_ids = self._turns.list_turn_ids(visitor)
        jobs = [encode_job(*await self._turns.get_turn(turn_id, visitor)) for turn_id in turn_ids]
        return JSONResponse({"jobs": jobs, "next_cursor": None})

    async def get_job(self, request: Request) -> Response:
        turn_id = parse_job_id(request.path_params["job_id"])
        job = encode_job(*await self._turns.get_turn(turn_id, self._visitors.find_cookie(request)))
        log.info("📊 Job status: %s %s", job["status"], json.dumps(job["latest_progress"]))
        return JSONResponse(job)

    async def get_health(self, request: Request) -> Response:
        now = format_timestamp(datetime.now(UTC))
        return JSONResponse(
            {"status": "healthy", "version": __version__, "timestamp": now, "active_jobs": self._turns.active_count}
        )

    async def _start(self, request: MockRequest, visitor: MockVisitor, *, mode: str) -> Response:
        if is_job_mode(mode):
            log.info("📋 Using job polling mode")
            return JSONResponse(encode_accepted(await self._turns.start_turn(request)), headers=visitor.headers)
        log.info("📡 Using SSE streaming mode")
        turn_id = await self._turns.start_turn(request)
        return self._make_stream_response(turn_id, await self._turns.open_tail(turn_id), visitor.headers)

    async def _resume(self, last_event_id: str, request: MockRequest) -> Response:
        log.info("📡 Resuming after %s", replace_control_characters(last_event_id))
        turn_id, tail = await self._turns.resume(last_event_id, request)
        if tail.is_over:
            tail.close()
            return Response(status_code=204)
        return self._make_stream_response(turn_id, tail, {})

    def _make_stream_response(self, turn_id: str, tail: MemoryTail, headers: Mapping[str, str]) -> Response:
        all_headers = {**STREAM_HEADERS, "X-Streaming-Session-Id": turn_id, **headers}
        return StreamingResponse(self._encode_stream(tail), headers=all_headers)

    async def _encode_stream(self, tail: MemoryTail) -> AsyncGenerator[str, None]:
        lead = "" if self._is_minimal else encode_retry()
        async for entries in self._turns.read_batches(tail):
            text = "".join(self._encode_frame(frame) for entry in entries for frame in _encode_entry(entry))
            # An empty batch means silence, which needs a heartbeat; entries without frames need nothing.
            if text or not entries:
                yield lead + (text or _encode_heartbeat())
                lead = ""

    def _encode_frame(self, frame: Frame) -> str:
        return replace(frame, id=None).text if self._is_minimal else frame.text


class MockVisitor(NamedTuple):
    """A visitor, known by a cookie. `is_new`: the request brought no cookie of ours."""

    cookie: str
    is_new: bool

    @property
    def headers(self) -> dict[str, str]:
        """The `Set-Cookie` header for a new visitor; no header for others."""
        if not self.is_new:
            return {}
        return {"Set-Cookie": f"{COOKIE}={self.cookie}; HttpOnly; Path=/; SameSite=Lax"}


class VisitorCookies:
    """The cookies that were given out. Others are not accepted."""

    def __init__(self) -> None:
        self._cookies: set[str] = set()

    def find_cookie(self, request: Request) -> str:
        """The visitor's cookie; empty, which is nobody's, when the request brings none of ours."""
        cookie = request.cookies.get(COOKIE, "")
        return cookie if cookie in self._cookies else ""

    def identify(self, request: Request) -> MockVisitor:
        known = self.find_cookie(request)
        if known:
            return MockVisitor(known, is_new=False)
        cookie = secrets.token_urlsafe(16)
        self._cookies.add(cookie)
        return MockVisitor(cookie, is_new=True)


class MockCors:
    """ASGI middleware: CORS headers on every answer. Starlette's own adds none for callers without `Origin`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin")
        is_local = origin in LOCAL_ORIGINS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin if is_local and origin else LOCAL_ORIGINS[0]
                headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                headers["Vary"] = "Origin"
                if is_local:
                    headers["Access-Control-Allow-Credentials"] = "true"
            await send(message)

        app = Response(status_code=204, headers=PREFLIGHT_HEADERS) if scope["method"] == "OPTIONS" else self._app
        await app(scope, receive, send_with_headers)


async def parse_body(request: Request) -> dict[str, Any]:
    """The JSON body. Raises `InvalidInput`, which names every field that breaks the schema, or `AnimalNotFound`."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise _make_invalid_input([FieldError("body", "is not JSON")]) from None
    errors = [_make_field_error(error) for error in _load_validator().iter_errors(body)]
    if errors:
        raise _make_invalid_input(errors)
    if body.get("animal_id", ANIMAL) not in _list_animal_ids():
        raise AnimalNotFound()
    return dict(body)


def parse_mode(request: Request) -> str:
    """The query parameter `mode`. Raises `InvalidInput`."""
    mode = request.query_params.get("mode", "stream")
    schema = load_spec()["components"]["parameters"]["Mode"]["schema"]
    if len(mode) > schema["maxLength"] or not linear_regex.compile(schema["pattern"]).search(mode):
        raise _make_invalid_input([FieldError("mode", schema["x-error-message"])])
    return mode


@cache
def _list_animal_ids() -> frozenset[str]:
    """The packaged animals, so that an id that the real server does not know fails here, too."""
    return frozenset(path.stem for path in (PACKAGE / "knowledge" / "animals").glob("*.yaml"))


@cache
def _load_validator() -> OAS30WriteValidator:
    """The schema of the request body in `openapi.yaml`."""
    spec = load_spec()
    schema = {"allOf": [{"$ref": "#/components/schemas/PlatformRequest"}], "components": spec["components"]}
    return OAS30WriteValidator(schema)


def _make_field_error(error: Any) -> FieldError:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return FieldError(".".join([*path, missing]), "is required")
    message = error.schema.get("x-error-message", "is not of the form that the API description gives")
    return FieldError(".".join(path) or "body", str(message))


def _make_invalid_input(errors: list[FieldError]) -> InvalidInput:
    return InvalidInput(f"{errors[0].field}: {errors[0].message}", errors=tuple(errors))


def _make_problem_response(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, ChatError) else ChatError()
    log.info("❌ %d %s", known.status, known.detail)
    return JSONResponse(encode_problem(known.problem), known.status, known.headers, PROBLEM_JSON)


def _make_plain_error_response(request: Request, error: Exception) -> Response:
    """What the quick start knows of an error: a sentence."""
    known = error if isinstance(error, ChatError) else ChatError()
    log.info("❌ %d %s", known.status, known.detail)
    return JSONResponse({"error": known.detail}, known.status)


def _handle_http_exception(make_response: MakeErrorResponse, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return make_response(request, {404: NotFound(), 405: MethodNotAllowed()}.get(status, ChatError()))


def _handle_unexpected_error(make_response: MakeErrorResponse, request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return make_response(request, ChatError())


def _log_request(query: str, history: list[object]) -> None:
    log.info("Received request - Query: %s", replace_control_characters(query))
    if history:
        log.info("Conversation history: %d messages", len(history))


def _encode_entry(entry: Entry) -> list[Frame]:
    frames = list(PLATFORM.encode(entry))
    for frame in frames:
        log.info("SSE -> %s: %s", frame.event, json.dumps(frame.data))
    return frames


def _encode_heartbeat() -> str:
    log.info("SSE -> heartbeat")
    return PLATFORM.heartbeat(None, 0)


def _format_banner(url: str) -> str:
    line = "═" * BANNER_WIDTH
    title = "MOCK CHATBOT SERVER".center(BANNER_WIDTH)
    return f"╔{line}╗\n║{title}║\n╚{line}╝\n\nServer running at: {url}\n"
