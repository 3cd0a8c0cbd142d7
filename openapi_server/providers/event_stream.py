"""Reads the server-sent events of a model server, and its comments, which the clients' libraries keep to themselves.

A server that queues a request, or whose model thinks, sends comments or pings: they say that it is at work.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass

from openapi_server.protocols import KEEP_ALIVE, KeepAlive
from openapi_server.providers.failures import ResponseTooLarge

# Of a line it is the limit, too.
MAX_EVENT_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """`name` is "" for an unnamed event; the lines of `data` are joined by line feeds."""

    name: str
    data: str


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[ServerSentEvent | KeepAlive, None]:
    """The events of a body (see `EventReader`). Raises `ResponseTooLarge`."""
    reader = EventReader()
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
    for event in reader.finish():
        yield event


def parse_object(data: str) -> dict[str, object]:
    """The JSON object of an event. Raises ValueError for anything else."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no object")  # what the server sent is wrong, no argument is
    return value


class EventReader:
    """A body in `text/event-stream` (WHATWG HTML, section 9.2.6), fed in chunks. A comment is a `KeepAlive`.

    Some servers forget the blank line behind the last event: the end of the body counts as one. A body without a line
    of an event is the data of one event, because servers that do not stream answer with plain JSON.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._ended_with_cr = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._other: list[str] | None = []

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent | KeepAlive]:
        # By bytes, because the line ends of text include characters that JSON may contain.
        for line in chunk.splitlines(keepends=True):
            if self._ended_with_cr and not self._line and line == b"\n":
                self._ended_with_cr = False
                continue
            self._line += line
            self._check_size(len(self._line))
            self._ended_with_cr = line.endswith(b"\r")
            if line.endswith((b"\r", b"\n")):
                yield from self._end_line()

    def finish(self) -> Iterator[ServerSentEvent | KeepAlive]:
        yield from self._end_line()
        yield from self._end_event()
        if self._other and (data := "\n".join(self._other).strip()):
            yield ServerSentEvent("", data)

    def _end_line(self) -> Iterator[ServerSentEvent | KeepAlive]:
        line = self._line.decode(errors="replace").rstrip("\r\n").removeprefix("\ufeff")
        self._line.clear()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if line:
                yield KEEP_ALIVE
            case "":
                yield from self._end_event()
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            # llama.cpp reports errors in a field of its own.
            case "error":
                self._name, self._data = "error", [value]
            case _ if self._other is not None:
                self._other.append(line)
        if name in ("event", "data", "error"):
            self._other = None
        self._size += len(line)
        self._check_size(self._size)

    def _end_event(self) -> Iterator[ServerSentEvent]:
        if self._data:
            yield ServerSentEvent(self._name, "\n".join(self._data))
        self._name, self._data = "", []
        self._size = sum(map(len, self._other or ()))

    def _check_size(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise ResponseTooLarge
