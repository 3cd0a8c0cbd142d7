"""Three parsers of event streams, as clients use them; each takes the bytes in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource
from sseclient import SSEClient


@dataclass(frozen=True)
class Parsed:
    """An event as a client's code sees it; `id` is the last one that the stream named."""

    event: str
    data: str
    id: str


Parser = Callable[[Iterable[bytes]], list[Parsed]]


def by_sseclient(pieces: Iterable[bytes]) -> list[Parsed]:
    """sseclient-py, which shows an event's own id only: carried on here, as its users have to."""
    found: list[Parsed] = []
    last_id = ""
    for event in SSEClient(iter(pieces)).events():
        last_id = event.id or last_id
        found.append(Parsed(event.event, event.data, last_id))
    return found


def by_httpx_sse(pieces: Iterable[bytes]) -> list[Parsed]:
    """httpx-sse, which shows a comment after an id as an event without data: its users skip those."""
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    response = httpx.Response(200, headers=headers, content=iter(pieces))
    return [
        Parsed(event.event or "message", event.data, event.id)
        for event in EventSource(response).iter_sse()
        if event.data
    ]


def by_a_browser(pieces: Iterable[bytes]) -> list[Parsed]:
    """The WHATWG standard, section 9.2.6, step by step: what `EventSource` does in a browser."""
    found: list[Parsed] = []
    data, event, last_id = "", "", ""
    for line in _lines(pieces):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append(Parsed(event or "message", data.removesuffix("\n"), last_id))
            data, event = "", ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return found


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines only: what stands after the last line end when the stream closes is thrown away."""
    rest = b""
    for piece in pieces:
        # A CR at the end may be the first half of a CRLF.
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for part in whole:
            yield from part.decode().split("\r")


PARSERS: dict[str, Parser] = {
    "sseclient-py": by_sseclient,
    "httpx-sse": by_httpx_sse,
    "a browser": by_a_browser,
}
