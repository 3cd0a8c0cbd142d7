"""Readers of event streams in Python, written as clients write them; each shows what its user would see.

Three of them are libraries or the standard itself. The others are the loops of the older documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import httpx
import requests
from httpx_sse import EventSource
from sseclient import SSEClient

HEADERS = {"content-type": "text/event-stream; charset=utf-8"}
TIMEOUT_S = 30


class Parsed(NamedTuple):
    """An event as a client's code sees it; `id` is the last one that the stream named."""

    event: str
    data: str
    id: str


Parser = Callable[[Iterable[bytes]], Iterator[Parsed]]


# Libraries, and the standard


def by_sseclient(response: requests.Response) -> Iterator[Parsed]:
    """sseclient-py, which shows an event's own id only: carried on here, as its users have to."""
    last_id = ""
    for event in SSEClient(response).events():  # type: ignore[arg-type]  # as every example of it does
        last_id = event.id or last_id
        yield Parsed(event.event, event.data, last_id)


def by_httpx_sse(response: httpx.Response) -> Iterator[Parsed]:
    """httpx-sse, which shows a comment after an id as an event without data."""
    for event in EventSource(response).iter_sse():
        yield Parsed(event.event or "message", event.data, event.id)


def by_a_browser(pieces: Iterable[bytes]) -> Iterator[Parsed]:
    """The WHATWG standard, section 9.2.6, step by step: what `EventSource` does in a browser."""
    data, event, last_id = "", "", ""
    for line in _split_lines(pieces):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Parsed(event or "message", data.removesuffix("\n"), last_id)
            data, event = "", ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value


def _split_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines only: what stands after the last line end when the stream closes is thrown away."""
    rest = b""
    for piece in pieces:
        # A CR at the end may be the first half of a CRLF.
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for part in whole:
            yield from part.decode().split("\r")


# The loops of the documents


def by_data_blocks(pieces: Iterable[bytes]) -> Iterator[Parsed]:
    """The token guide's hook: splits at blank lines, and takes blocks that begin with `data: ` and hold JSON."""
    for block in _split_blocks(pieces):
        if block.startswith("data: ") and "\n" not in block:
            yield Parsed("message", block.removeprefix("data: "), "")


def by_pairs(pieces: Iterable[bytes]) -> Iterator[Parsed]:
    """Splits at blank lines, and takes blocks that begin with the two lines that the quick start shows."""
    for block in _split_blocks(pieces):
        first, second = [*block.split("\n"), ""][:2]
        if first.startswith("event: ") and second.startswith("data: "):
            yield Parsed(first.removeprefix("event: "), second.removeprefix("data: "), "")


def by_fields_of_blocks(pieces: Iterable[bytes]) -> Iterator[Parsed]:
    """Splits at blank lines, and looks for the fields in each block, wherever they stand."""
    last_id = ""
    for block in _split_blocks(pieces):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        last_id = fields.get("id", last_id)
        if "data" in fields:
            yield Parsed(fields.get("event", "message"), fields["data"], last_id)


def _split_blocks(pieces: Iterable[bytes]) -> Iterator[str]:
    buffer = ""
    for piece in pieces:
        *blocks, buffer = (buffer + piece.decode()).split("\n\n")
        yield from blocks


def by_split_lines(pieces: Iterable[bytes]) -> Iterator[Parsed]:
    """The quick start's client: an incomplete line waits in a buffer."""
    lines, buffer = NamedLines(), ""
    for piece in pieces:
        *whole, buffer = (buffer + piece.decode()).split("\n")
        for line in whole:
            yield from lines.take(line)


def by_requests_lines(response: requests.Response) -> Iterator[Parsed]:
    """The streaming session test: `iter_lines` of requests."""
    lines = NamedLines()
    for line in response.iter_lines(decode_unicode=True):
        yield from lines.take(line)


async def by_httpx_lines(response: httpx.Response) -> AsyncIterator[Parsed]:
    """The token guide's script: `aiter_lines` of httpx."""
    lines = NamedLines()
    async for line in response.aiter_lines():
        for found in lines.take(line):
            yield found


class NamedLines:
    """An `event: ` line names what the next `data: ` line holds; every other line is passed over."""

    def __init__(self) -> None:
        self._name = "message"

    def take(self, line: str) -> Iterator[Parsed]:
        if line.startswith("event: "):
            self._name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield Parsed(self._name, line.removeprefix("data: "), "")
            self._name = "message"


# How each of them is fed from pieces, and from a server


class RawPieces:
    """What requests reads a body from, with a border wherever one piece ends."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def stream(self, amount: int, decode_content: bool = False) -> Iterator[bytes]:
        return iter(self._pieces)


@dataclass(frozen=True)
class PiecesReader:
    """A function of the pieces as they come."""

    function: Parser

    def feed(self, pieces: Iterable[bytes]) -> Iterator[Parsed]:
        return self.function(pieces)

    def post(self, url: str, body: object, headers: Mapping[str, str]) -> Iterator[Parsed]:
        with httpx.stream("POST", url, json=body, headers=headers, timeout=TIMEOUT_S) as response:
            yield from self.function(response.iter_raw())


@dataclass(frozen=True)
class RequestsReader:
    """A function of an answer of requests."""

    function: Callable[[requests.Response], Iterator[Parsed]]

    def feed(self, pieces: Iterable[bytes]) -> Iterator[Parsed]:
        response = requests.Response()
        response.raw = RawPieces(pieces)
        response.encoding = "utf-8"
        return self.function(response)

    def post(self, url: str, body: object, headers: Mapping[str, str]) -> Iterator[Parsed]:
        with requests.post(url, json=body, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            yield from self.function(response)


@dataclass(frozen=True)
class HttpxReader:
    """A function of an answer of httpx."""

    function: Callable[[httpx.Response], Iterator[Parsed]]

    def feed(self, pieces: Iterable[bytes]) -> Iterator[Parsed]:
        return self.function(httpx.Response(200, headers=HEADERS, content=iter(pieces)))

    def post(self, url: str, body: object, headers: Mapping[str, str]) -> Iterator[Parsed]:
        with httpx.stream("POST", url, json=body, headers=headers, timeout=TIMEOUT_S) as response:
            yield from self.function(response)


@dataclass(frozen=True)
class AsyncHttpxReader:
    """An asynchronous function of an answer of httpx."""

    function: Callable[[httpx.Response], AsyncIterator[Parsed]]

    def feed(self, pieces: Iterable[bytes]) -> Iterator[Parsed]:
        # Nothing here waits: an event loop for each of many thousand feeds would take most of the time.
        reading = self._feed(pieces)
        try:
            reading.send(None)
        except StopIteration as end:
            return iter(end.value)
        raise AssertionError("it waits for more than the pieces")

    async def _feed(self, pieces: Iterable[bytes]) -> list[Parsed]:
        async def give() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return [found async for found in self.function(httpx.Response(200, headers=HEADERS, content=give()))]

    def post(self, url: str, body: object, headers: Mapping[str, str]) -> Iterator[Parsed]:
        return iter(asyncio.run(self._post(url, body, headers)))

    async def _post(self, url: str, body: object, headers: Mapping[str, str]) -> list[Parsed]:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("POST", url, json=body, headers=headers) as response,
        ):
            return [found async for found in self.function(response)]
