"""Servers that do what the source documents ask, and no more: what `zoochat check` may require of anybody.

Each is written after its document alone: no event ids, no `retry`, no resuming, no problem objects, JSON with blanks.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

STEP_S = 0.02
WORDS = ("Roar! ", "I am ", "a lion. ", "I sleep ", "a lot, ", "and I ", "eat ", "meat.")
AT = "2025-11-06T10:30:40.000Z"

Body = dict[str, Any]


class Origin:
    """A server of one document. `routes` are its operations."""

    routes: list[Route]

    def make_app(self) -> Starlette:
        return Starlette(routes=self.routes, exception_handlers={ValueError: _refuse_bad_json})


async def _refuse_bad_json(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The request is not valid JSON"}, 400)


@contextmanager
def serve_origin(origin: Origin) -> Iterator[str]:
    """Serve it in a thread; its URL."""
    config = uvicorn.Config(
        origin.make_app(), host="127.0.0.1", port=0, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    # Connections wait from now on, until the thread accepts them.
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def stream_blocks(blocks: Iterable[str], media_type: str = "text/event-stream", **headers: str) -> StreamingResponse:
    async def generate() -> AsyncIterator[str]:
        for block in blocks:
            yield block
            await asyncio.sleep(STEP_S)

    named = {"Cache-Control": "no-cache", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return StreamingResponse(generate(), media_type=media_type, headers=named)


def format_event(name: str, data: Mapping[str, object], event_id: str = "") -> str:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def format_data(**data: object) -> str:
    return f"data: {json.dumps(data)}\n\n"


async def get_health(request: Request) -> Response:
    return JSONResponse({"status": "healthy", "version": "0.1.0"})


def _find_missing(body: Body, *names: str) -> Response | None:
    missing = [name for name in names if not body.get(name)]
    return JSONResponse({"error": f"{missing[0]} is missing"}, 400) if missing else None


class PlatformOrigin(Origin):
    """The quick start's server: a stream of progress and a result, or a job that goes a step on with each poll."""

    STEPS = (("loading_documents", 25), ("analyzing", 50), ("generating_response", 75))

    def __init__(self) -> None:
        self.jobs: dict[str, Body] = {}
        self.routes = [
            Route("/api/v1/stream", self.start, methods=["POST"]),
            Route("/api/v1/stream/error", self.fail, methods=["POST"]),
            Route("/jobs", self.list_jobs),
            Route("/jobs/{job_id}", self.get_job),
            Route("/health", get_health),
        ]

    async def start(self, request: Request) -> Response:
        query = str((await request.json()).get("query", ""))
        is_job = request.query_params.get("mode") == "job"
        answer = self._make_job(query) if is_job else stream_blocks(self.list_events(query))
        cookie = request.cookies.get("session_id") or str(uuid4())
        answer.set_cookie("session_id", cookie, httponly=True, samesite=None)
        return answer

    def list_events(self, query: str) -> Iterator[str]:
        for step, progress in (("initializing", 10), *self.STEPS):
            yield format_event("progress", self.make_progress(step, progress))
        yield format_event("result", self.make_result(query))
        yield format_event("complete", {"progress": 100, "message": "Done", "step": "complete"})

    def make_progress(self, step: str, progress: int) -> Body:
        return {"step": step, "message": f"{step}...", "progress": progress, "details": None}

    def make_result(self, query: str) -> Body:
        return {"response": f"About {query!r}: it depends.", "sources": [{"title": "A report"}], "metadata": {}}

    def _make_job(self, query: str) -> Response:
        job_id = f"job_{uuid4().hex[:16]}"
        self.jobs[job_id] = {"query": query, "polls": 0}
        return JSONResponse({"job_id": job_id, "status": "pending", "polling_url": f"/jobs/{job_id}"})

    async def get_job(self, request: Request) -> Response:
        job_id = request.path_params["job_id"]
        job = self.jobs.get(job_id)
        if job is None:
            return JSONResponse({"error": "Job not found"}, 404)
        reached = job["polls"]
        job["polls"] += 1
        is_over = reached >= len(self.STEPS)
        step, progress = ("complete", 100) if is_over else self.STEPS[reached]
        return JSONResponse(
            {
                "job_id": job_id,
                "status": "succeeded" if is_over else "running",
                "latest_progress": self.make_progress(step, progress),
                "result": self.make_result(job["query"]) if is_over else None,
                "error": None,
            }
        )

    async def fail(self, request: Request) -> Response:
        await request.json()
        events = [
            format_event("progress", self.make_progress("initializing", 10)),
            format_event("error", {"error": "The documents cannot be read"}),
        ]
        return stream_blocks(events)

    async def list_jobs(self, request: Request) -> Response:
        return JSONResponse({"jobs": [{"job_id": job_id} for job_id in self.jobs]})


class ConvoOrigin(Origin):
    """The ticket's server: events with an id each, from `metadata` to `complete`."""

    def __init__(self) -> None:
        self.routes = [Route("/convo_turn_stream", self.stream, methods=["POST"])]

    async def stream(self, request: Request) -> Response:
        refusal = _find_missing(await request.json(), "message", "animalId")
        return refusal or stream_blocks(
            self.list_events(), X_Accel_Buffering="no", Access_Control_Allow_Origin="http://localhost:3000"
        )

    def list_events(self) -> Iterator[str]:
        events: list[tuple[str, Body]] = [
            ("metadata", {"sessionId": "s1", "animalId": "lion_001"}),
            ("typing", {"status": "start"}),
            ("typing", {"status": "stop", "duration": 20}),
            *(("message", {"content": word}) for word in WORDS),
            ("complete", {"sessionId": "s1"}),
        ]
        for number, (name, data) in enumerate(events, 1):
            yield format_event(name, data, str(number))


class SessionsOrigin(Origin):
    """The three services of the streaming test in one: accounts, credits, and sessions with a streaming id."""

    def __init__(self) -> None:
        self.streaming_ids: dict[str, str] = {}
        self.routes = [
            Route("/health", get_health),
            Route("/auth/login", self.log_in, methods=["POST"]),
            Route("/credits/allocate", self.allocate, methods=["POST"]),
            Route("/models", self.list_models),
            Route("/chat/sessions", self.create, methods=["POST"]),
            Route("/chat/sessions/{session_id}", self.delete, methods=["DELETE"]),
            Route("/chat/sessions/{session_id}/stream", self.stream, methods=["POST"]),
            Route("/chat/sessions/{session_id}/update-stream", self.update, methods=["POST"]),
        ]

    async def log_in(self, request: Request) -> Response:
        return JSONResponse({"accessToken": f"token of {(await request.json())['username']}"})

    async def allocate(self, request: Request) -> Response:
        return JSONResponse({"message": "Allocated"}, 201)

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"models": [{"id": "m1"}]})

    async def create(self, request: Request) -> Response:
        session_id = uuid4().hex
        self.streaming_ids[session_id] = ""
        return JSONResponse({"sessionId": session_id}, 201)

    async def delete(self, request: Request) -> Response:
        self.streaming_ids.pop(request.path_params["session_id"], None)
        return JSONResponse({"message": "Deleted"})

    async def stream(self, request: Request) -> Response:
        streaming_id = uuid4().hex
        self.streaming_ids[request.path_params["session_id"]] = streaming_id
        return stream_blocks(self.list_events(), X_Streaming_Session_Id=streaming_id)

    def list_events(self) -> Iterator[str]:
        for word in WORDS:
            yield format_event("chunk", {"text": word})
        yield format_event("done", {"tokensUsed": len(WORDS)})

    async def update(self, request: Request) -> Response:
        given = (await request.json())["streamingSessionId"]
        if given != self.streaming_ids[request.path_params["session_id"]]:
            return JSONResponse({"message": "Streaming session ID mismatch"}, 400)
        return JSONResponse({"message": "Updated"})


class TokensOrigin(Origin):
    """The token guide's server: data blocks of a type, a content and a timestamp."""

    def __init__(self) -> None:
        self.routes = [Route("/health", get_health), Route("/chat", self.stream, methods=["POST"])]

    async def stream(self, request: Request) -> Response:
        return _find_missing(await request.json(), "message", "session_id") or stream_blocks(self.list_events())

    def list_events(self) -> Iterator[str]:
        stage = {"stage": "retrieval", "status": "started"}
        yield format_data(type="retrieval_start", content=stage, timestamp=AT)
        yield format_data(type="retrieval_complete", content=stage | {"status": "complete"}, timestamp=AT)
        yield ": still here\n\n"
        for word in WORDS:
            yield format_data(type="token", content=word, timestamp=AT)
        yield format_data(type="done", content={}, timestamp=AT)


class DevicesOrigin(Origin):
    """The device guide's server: a whole answer, or pieces and an empty final one, as plain text."""

    def __init__(self) -> None:
        self.routes = [
            Route("/chat/", self.answer, methods=["POST"]),
            Route("/chat/stream", self.stream, methods=["POST"]),
        ]

    async def answer(self, request: Request) -> Response:
        return _find_missing(await request.json(), "content") or JSONResponse({"content": "".join(WORDS)})

    async def stream(self, request: Request) -> Response:
        refusal = _find_missing(await request.json(), "content")
        return refusal or stream_blocks(self.list_events(), "text/plain")

    def list_events(self) -> Iterator[str]:
        yield format_data(content="".join(WORDS), timestamp="2025-10-01T14:24:19.941641", is_final=False)
        yield format_data(content="", timestamp="2025-10-01T14:24:19.941881", is_final=True)


ORIGINS: dict[str, type[Origin]] = {
    "convo": ConvoOrigin,
    "platform": PlatformOrigin,
    "sessions": SessionsOrigin,
    "tokens": TokensOrigin,
    "devices": DevicesOrigin,
}
