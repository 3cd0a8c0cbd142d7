"""A model server that follows a script, and fails in every way that real ones do.

It listens on a free port of this machine, in the event loop that opens it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any

from openapi_server.models.turn import FinishReason, Usage
from tests.support.connections import close, reset
from tests.support.model_dialects import PRIVATE_ERROR, Dialect

PIECES = ("Roar! ", "I am ", "a lion.")
LONG_BYTES = 10_000_000


class ModelFault(StrEnum):
    """The kind of failure."""

    STATUS = "status"
    HTML = "another kind of page"
    HANG = "hang"
    RESET = "reset"
    CUT = "cut chunk"
    BAD_JSON = "bad JSON"
    WRONG_TYPE = "wrong type"
    ERROR = "error event"
    NO_END = "no end mark"
    LONG_LINE = "10 MB line"
    LONG_ERROR = "10 MB error"


class FaultPoint(StrEnum):
    """When it fails: instead of an answer, before the first text, between texts, before the end mark."""

    CONNECT = "connect"
    FIRST = "first"
    MIDDLE = "middle"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One reply and its failure, if any. `status`, `retry_after` and `message` belong to `ModelFault.STATUS`.

    `pause_s`: between two pieces. A piece of bytes is sent as it is.

    A `finish` that is no `FinishReason` is written as what it is.
    """

    pieces: Sequence[object] = PIECES
    finish: object = FinishReason.STOP
    usage: Usage | None = Usage(12, 3)
    fault: ModelFault | None = None
    at: FaultPoint = FaultPoint.CONNECT
    status: int = 200
    retry_after: str | None = None
    message: str = PRIVATE_ERROR
    pause_s: float = 0.0

    def fails_at(self, at: FaultPoint) -> bool:
        return self.fault is not None and self.at is at


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request as received."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class ScriptedModel:
    """Gives the answers in their order, and repeats the last one.

    `is_hanging`: an answer hangs now. `was_left`: a client hung up before the end.
    """

    dialect: Dialect
    answers: Sequence[ModelAnswer] = (ModelAnswer(),)
    requests: list[ModelRequest] = field(default_factory=list)
    is_hanging: asyncio.Event = field(default_factory=asyncio.Event)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> ScriptedModel:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def choose_answer(self, asked: ModelRequest) -> ModelAnswer:
        return self.answers[min(len(self.requests), len(self.answers)) - 1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _read_request(reader)
            self.requests.append(asked)
            answer = self.choose_answer(asked)
            if not await AnswerWriter(self.dialect, answer, reader, writer, self.is_hanging).send():
                self.was_left.set()
        except (OSError, asyncio.IncompleteReadError):
            self.was_left.set()
        finally:
            close(writer)


class _ReplyEnded(Exception):
    """The answer has ended, complete or not."""


@dataclass(frozen=True, slots=True)
class AnswerWriter:
    """Writes one answer, as far as its fault allows."""

    dialect: Dialect
    answer: ModelAnswer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_hanging: asyncio.Event

    async def send(self) -> bool:
        """False when the client hung up before the end."""
        answer, dialect = self.answer, self.dialect
        try:
            await self._inject_fault(FaultPoint.CONNECT)
            self._write_head("200 OK", f"Content-Type: {dialect.content_type}", "Transfer-Encoding: chunked")
            await self._send_chunk(dialect.encode_start(answer.usage))
            await self._inject_fault(FaultPoint.FIRST)
            for number, text in enumerate(answer.pieces):
                if number == 1:
                    await self._inject_fault(FaultPoint.MIDDLE)
                if answer.pause_s and number:
                    await asyncio.sleep(answer.pause_s)
                await self._send_chunk(text if isinstance(text, bytes) else dialect.encode_piece(text))
            await self._inject_fault(FaultPoint.LAST)
            await self._send_chunk(dialect.encode_end(answer.finish, answer.usage))
            await self._send_end()
        except _ReplyEnded:
            pass
        except OSError:
            return False
        return True

    async def _inject_fault(self, at: FaultPoint) -> None:
        """Fail here if the answer says so. `_ReplyEnded`: nothing comes after it."""
        answer, dialect = self.answer, self.dialect
        if at is not answer.at:
            return
        match answer.fault:
            case ModelFault.STATUS:
                wait = [f"Retry-After: {answer.retry_after}"] if answer.retry_after else []
                await self._send_page(f"{answer.status} Sorry", "application/json", *wait)
            case ModelFault.HTML:
                await self._send_page("200 OK", "text/html")
            case ModelFault.HANG:
                self.is_hanging.set()
                await self.reader.read()
                raise ConnectionError
            case ModelFault.RESET:
                reset(self.writer)
                raise _ReplyEnded
            case ModelFault.CUT if at is FaultPoint.CONNECT:
                self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
                raise _ReplyEnded
            case ModelFault.CUT:
                self.writer.write(b"ff\r\n" + dialect.encode_piece("a lion that")[:40])
                raise _ReplyEnded
            case ModelFault.BAD_JSON:
                await self._send_chunk(dialect.encode_bad_json())
            case ModelFault.WRONG_TYPE:
                await self._send_chunk(dialect.encode_piece(42))
            case ModelFault.ERROR:
                await self._send_chunk(dialect.encode_error())
                await self._send_end()
            case ModelFault.NO_END:
                await self._send_end()
            case ModelFault.LONG_LINE if at is FaultPoint.CONNECT:
                self._write_head("200 OK", f"X-Long: {'x' * LONG_BYTES}", "Content-Length: 0")
                await self.writer.drain()
            case ModelFault.LONG_ERROR:
                self._write_head("400 Sorry", "Content-Type: application/json", "Transfer-Encoding: chunked")
                await self._send_chunk(json.dumps({"message": "a\n" * (LONG_BYTES // 3)}).encode())
                await self._send_end()
            case ModelFault.LONG_LINE:
                await self._send_chunk(dialect.encode_piece("x" * LONG_BYTES))

    async def _send_page(self, status: str, content_type: str, *headers: str) -> None:
        message = self.answer.message
        page = json.dumps({"error": {"message": message}, "message": message}).encode()
        self._write_head(status, f"Content-Type: {content_type}", f"Content-Length: {len(page)}", *headers)
        self.writer.write(page)
        await self.writer.drain()
        raise _ReplyEnded

    def _write_head(self, status: str, *headers: str) -> None:
        lines = (f"HTTP/1.1 {status}", *headers, "Connection: close", "", "")
        self.writer.write("\r\n".join(lines).encode())

    async def _send_chunk(self, frame: bytes) -> None:
        self.writer.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
        await self.writer.drain()

    async def _send_end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        raise _ReplyEnded


async def _read_request(reader: asyncio.StreamReader) -> ModelRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ModelRequest(first.split()[1], headers, json.loads(body or b"null"))
