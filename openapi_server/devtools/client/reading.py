"""Reading a stream to its end, also when the connection does not last as long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, ServerSentEvent

from openapi_server.devtools.client.asking import NoResult
from openapi_server.devtools.client.printing import Transcript

MAX_TRIES = 5
MAX_RETRY_S = 30.0


@dataclass(slots=True)
class Place:
    """Where in the stream we are: the last id that came through, and how the server wants to be asked again."""

    last_id: str = ""
    retry_s: float = 2.0
    tries: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def after(self, event: ServerSentEvent) -> None:
        if event.retry is not None:
            self.retry_s = min(max(event.retry / 1000, 0), MAX_RETRY_S)
        if event.id:
            self.last_id = event.id
        if event.data:
            self.tries = 0

    async def wait(self, transcript: Transcript) -> None:
        """The time before the next try. Raises `NoResult` when there is none: no id came, or it was tried enough."""
        if not self.last_id:
            raise NoResult("The connection broke off before an event that it could be resumed from")
        if self.tries == MAX_TRIES:
            raise NoResult(f"The stream broke off, and {MAX_TRIES} tries to resume it failed")
        self.tries += 1
        transcript.say(f"\n⚠️ The stream broke off. Resuming after {self.last_id} in {self.retry_s:g} s")
        await asyncio.sleep(self.retry_s)


async def hear(answer: httpx.Response, place: Place, transcript: Transcript) -> bool:
    """Print the events of a stream; whether it was whole. Raises `NoResult` for an error."""
    answer.stream = _Tap(answer.stream, transcript)
    async for event in EventSource(answer).aiter_sse():
        transcript.detail(f"Event: {event}")
        place.after(event)
        # A block without data is no event: a retry line, or an id with a comment.
        if event.data:
            transcript.event(event.event, event.data)
        if event.event == "complete":
            if transcript.response is None:
                raise NoResult("The stream is complete, but no result came")
            break
    # Chatbots that end after the result have said all that matters.
    return transcript.response is not None


class _Tap(httpx.AsyncByteStream):
    """The bytes of an answer, shown on their way: each chunk as it came, and each line once it is whole."""

    def __init__(self, stream: object, transcript: Transcript) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101  # the client is an asynchronous one
        self._stream = stream
        self._transcript = transcript
        self._rest = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._transcript.detail(f"Raw SSE chunk: {chunk!r}")
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._transcript.detail(f"Line: {line.decode(errors='replace')}")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
