"""What one would pick instead of this server: bare streams, which keep nothing, check nothing and resume nothing.

`python -m benchmarks.peers NAME PIECES PER_SECOND FD` serves the listening socket with that number. Each has the same
three operations: a stream of so many frames (0 a second: without pauses), an answer of one frame, and `/health`. Each
encodes every frame, and imports its own libraries only, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

STREAM_PATH, ONE_PATH, HEALTH_PATH = "/convo_turn_stream", "/one", "/health"
EVENT_STREAM = "text/event-stream"
HEALTH = {"status": "healthy"}
# What the asynchronous peers are served by; the server itself is served in the same way.
UVICORN: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "log_level": "warning", "access_log": False}


def make_data(number: int) -> dict[str, object]:
    return {"type": "chunk", "chunkId": number, "content": f"tick {number} "}


def encode_frame(number: int, event: str = "chunk") -> bytes:
    data = json.dumps(make_data(number), separators=(",", ":"))
    return f"id: turn-{number}\nevent: {event}\ndata: {data}\n\n".encode()


async def count_out(pieces: int, per_s: float) -> AsyncIterator[int]:
    """1 to `pieces`, at that pace; 0: without pauses."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number in range(1, pieces + 1):
        if per_s:
            await asyncio.sleep(max(0.0, began_s + number / per_s - loop.time()))
        yield number


async def stream_frames(pieces: int, per_s: float) -> AsyncIterator[bytes]:
    async for number in count_out(pieces, per_s):
        yield encode_frame(number)
    yield encode_frame(pieces, "complete")


def make_raw_asgi(pieces: int, per_s: float) -> Any:
    """ASGI without any framework."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == HEALTH_PATH:
            body, media_type = json.dumps(HEALTH).encode(), b"application/json"
            headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body += message.get("body", b"")
            has_more = message.get("more_body", False)
        json.loads(body)
        count, pace = (pieces, per_s) if scope["path"] == STREAM_PATH else (1, 0)
        headers = [(b"content-type", EVENT_STREAM.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for frame in stream_frames(count, pace):
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def make_fastapi(pieces: int, per_s: float) -> Any:
    """FastAPI, with Starlette's `StreamingResponse`."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    async def stream(body: dict[str, Any]) -> Any:
        return StreamingResponse(stream_frames(pieces, per_s), media_type=EVENT_STREAM)

    async def answer_one(body: dict[str, Any]) -> Any:
        return StreamingResponse(stream_frames(1, 0), media_type=EVENT_STREAM)

    async def health() -> dict[str, str]:
        return HEALTH

    # The annotations of this module are strings, which FastAPI looks up.
    app = FastAPI()
    app.add_api_route(STREAM_PATH, stream, methods=["POST"], response_model=None)
    app.add_api_route(ONE_PATH, answer_one, methods=["POST"], response_model=None)
    app.add_api_route(HEALTH_PATH, health)
    return app


def make_fastapi_sse(pieces: int, per_s: float) -> Any:
    """FastAPI, with its own response of server-sent events."""
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse, ServerSentEvent

    async def stream_events(count: int, pace: float) -> AsyncIterator[Any]:
        async for number in count_out(count, pace):
            yield ServerSentEvent(data=make_data(number), event="chunk", id=f"turn-{number}")
        yield ServerSentEvent(data=make_data(count), event="complete", id=f"turn-{count}")

    async def stream(body: dict[str, Any]) -> Any:
        async for event in stream_events(pieces, per_s):
            yield event

    async def answer_one(body: dict[str, Any]) -> Any:
        async for event in stream_events(1, 0):
            yield event

    async def health() -> dict[str, str]:
        return HEALTH

    app = FastAPI()
    for path, handler in ((STREAM_PATH, stream), (ONE_PATH, answer_one)):
        app.add_api_route(path, handler, methods=["POST"], response_class=EventSourceResponse, response_model=None)
    app.add_api_route(HEALTH_PATH, health)
    return app


def make_sse_starlette(pieces: int, per_s: float) -> Any:
    """Starlette, with the response of sse-starlette."""
    from sse_starlette import EventSourceResponse, ServerSentEvent
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def stream_events(count: int, pace: float) -> AsyncIterator[Any]:
        async for number in count_out(count, pace):
            data = json.dumps(make_data(number), separators=(",", ":"))
            yield ServerSentEvent(data, event="chunk", id=f"turn-{number}")
        yield ServerSentEvent(json.dumps(make_data(count)), event="complete", id=f"turn-{count}")

    async def stream(request: Request) -> Any:
        await request.json()
        return EventSourceResponse(stream_events(pieces, per_s))

    async def answer_one(request: Request) -> Any:
        await request.json()
        return EventSourceResponse(stream_events(1, 0))

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(HEALTH)

    return Starlette(
        routes=[
            Route(STREAM_PATH, stream, methods=["POST"]),
            Route(ONE_PATH, answer_one, methods=["POST"]),
            Route(HEALTH_PATH, health),
        ]
    )


def _stream_in_thread(pieces: int, per_s: float) -> Iterator[bytes]:
    """As `stream_frames`, for servers that give each stream a thread, or what gevent makes of one."""
    began_s = time.monotonic()
    for number in range(1, pieces + 1):
        if per_s:
            time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
        yield encode_frame(number)
    yield encode_frame(pieces, "complete")


def make_flask(pieces: int, per_s: float) -> Any:
    """Flask with a generator. `gunicorn` serves it, with gevent."""
    from flask import Flask, Response, jsonify, request

    def stream() -> Response:
        request.get_json()
        return Response(_stream_in_thread(pieces, per_s), mimetype=EVENT_STREAM)

    def answer_one() -> Response:
        request.get_json()
        return Response(_stream_in_thread(1, 0), mimetype=EVENT_STREAM)

    def health() -> Response:
        return jsonify(HEALTH)

    app = Flask("benchmarks.peers")
    app.add_url_rule(STREAM_PATH, view_func=stream, methods=["POST"])
    app.add_url_rule(ONE_PATH, view_func=answer_one, methods=["POST"])
    app.add_url_rule(HEALTH_PATH, view_func=health)
    return app


def make_connexion(pieces: int, per_s: float) -> Any:
    """Connexion over Flask, with a generator: this server without anything of its own."""
    from connexion import FlaskApp
    from connexion.resolver import Resolver
    from flask import Response

    def stream(body: dict[str, Any]) -> Response:
        return Response(_stream_in_thread(pieces, per_s), mimetype=EVENT_STREAM)

    def answer_one(body: dict[str, Any]) -> Response:
        return Response(_stream_in_thread(1, 0), mimetype=EVENT_STREAM)

    def health() -> dict[str, str]:
        return HEALTH

    handlers = {"stream": stream, "answer_one": answer_one, "health": health}
    body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    streamed = {"200": {"description": "Frames", "content": {EVENT_STREAM: {"schema": {"type": "string"}}}}}
    answered = {"200": {"description": "Health", "content": {"application/json": {"schema": {"type": "object"}}}}}
    spec = {
        "openapi": "3.0.3",
        "info": {"title": "A bare stream", "version": "1"},
        "paths": {
            STREAM_PATH: {"post": {"operationId": "stream", "requestBody": body, "responses": streamed}},
            ONE_PATH: {"post": {"operationId": "answer_one", "requestBody": body, "responses": streamed}},
            HEALTH_PATH: {"get": {"operationId": "health", "responses": answered}},
        },
    }
    app = FlaskApp("benchmarks.peers")
    app.add_api(spec, resolver=Resolver(handlers.__getitem__))
    return app


def make_bridge(pieces: int, per_s: float) -> Any:
    """This server's stream code alone: a turn's writer, the event log, its reader, the encoder and the response."""
    from openapi_server.clock import SystemClock
    from openapi_server.engine.turn_reader import TurnReader
    from openapi_server.engine.turn_writer import TurnWriter
    from openapi_server.event_logs.memory import MemoryEventLog
    from openapi_server.impl.streaming_response import SSEStreamer
    from openapi_server.logging_setup import BackgroundWriter, configure_logging
    from openapi_server.models.turn import AgeGroup
    from openapi_server.models.turn_event_order import TurnResult
    from openapi_server.models.turn_events import Started

    configure_logging("WARNING", "logfmt", BackgroundWriter(2))
    clock = SystemClock()
    event_log = MemoryEventLog(clock)
    streamer = SSEStreamer(clock=clock)
    numbers = itertools.count()
    raw = make_raw_asgi(pieces, per_s)

    async def write(writer: TurnWriter, count: int, pace: float) -> None:
        async for number in count_out(count, pace):
            await writer.write_text(f"tick {number} ")
        await writer.append(writer.builder.complete(TurnResult(), writer.elapsed_ms))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == HEALTH_PATH:
            await raw(scope, receive, send)
            return
        body = (await receive()).get("body", b"")
        animal_id = json.loads(body)["animalId"]
        turn_id = f"turn_{next(numbers)}"
        started = Started(turn_id, "session", animal_id, "Leo", "paced", AgeGroup.ELEMENTARY, "A computer program.")
        writer = TurnWriter(started, event_log, clock)
        await writer.open()
        tail = await event_log.open_tail(turn_id)
        assert tail is not None
        reader = TurnReader(turn_id, (), tail, clock)
        count, pace = (pieces, per_s) if scope["path"] == STREAM_PATH else (1, 0)
        writing = asyncio.create_task(write(writer, count, pace))
        response = streamer.create_sse_response(streamer.stream_turn(reader), on_end=reader.close)
        await response(scope, receive, send)
        await writing

    return app


class PreparedAnswers(asyncio.Protocol):
    """A connection whose requests are answered from prepared buffers, in one write each."""

    def __init__(self, stream: bytes, one: bytes, health: bytes) -> None:
        self._stream, self._one, self._health = stream, one, health

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST /one"):
            self._transport.write(self._one)
        elif data.startswith(b"POST"):
            self._transport.write(self._stream)
            self._transport.close()
        else:
            self._transport.write(self._health)
            if b"\r\nConnection: close" in data:
                self._transport.close()


async def serve_prepared(listener: socket.socket, pieces: int) -> None:
    """The least that a server can do. It shows how fast the load generator is."""
    stream, one = (_prepare_answer(count) for count in (pieces, 1))
    body = json.dumps(HEALTH).encode()
    health = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PreparedAnswers(stream, one, health), sock=listener, backlog=2048)
    await server.serve_forever()


def _prepare_answer(pieces: int) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    frames = [*map(encode_frame, range(1, pieces + 1)), encode_frame(pieces, "complete"), b""]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames)


def _serve_bridge(listener: socket.socket, pieces: int, per_s: float) -> None:
    from openapi_server.http.uvicorn_protocol import make_protocol_class

    _serve(make_bridge(pieces, per_s), listener, http=make_protocol_class(head_timeout_s=10, peer_timeout_s=30))


def _serve(app: Any, listener: socket.socket, **options: Any) -> None:
    import uvicorn

    config = uvicorn.Config(app, **{**UVICORN, **options}, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


ASGI_APPS = {
    "raw-asgi": make_raw_asgi,
    "fastapi": make_fastapi,
    "fastapi-sse": make_fastapi_sse,
    "sse-starlette": make_sse_starlette,
    "connexion": make_connexion,
}


def main(name: str, pieces: int, per_s: float, number: int) -> None:
    listener = socket.socket(fileno=number)
    if name == "prepared":
        import uvloop

        uvloop.run(serve_prepared(listener, pieces))
    elif name == "bridge":
        _serve_bridge(listener, pieces, per_s)
    else:
        _serve(ASGI_APPS[name](pieces, per_s), listener)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
