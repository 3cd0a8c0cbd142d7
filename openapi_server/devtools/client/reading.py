"""Reading a stream to its end, also when the connection does not last as long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, ServerSentEvent

from openapi_server.devtools.client.asking import ClientError
from openapi_server.devtools.client.printing import Transcript

MAX_RESUMES = 5
MAX_RETRY_S = 30.0


@dataclass(slots=True)
class StreamCursor:
    """Where in the stream we are: the last id that came through, and how the server wants to be asked again."""

    last_event_id: str = ""
    retry_s: float = 2.0
    attempts: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}

    def update(self, event: ServerSentEvent) -> None:
        if event.retry is not None:
            self.retry_s = min(max(event.retry / 1000, 0), MAX_RETRY_S)
        if event.id:
            self.last_event_id = event.id
        if event.data:
            self.attempts = 0

    async def wait(self, transcript: Transcript) -> None:
        """The time before the next try. Raises `NoResult` when there is none: no id came, or it was tried enough."""
        if not self.last_event_id:
            raise ClientError("The connection broke off before an event that it could be resumed from")
        if self.attempts == MAX_RESUMES:
            raise ClientError(f"The stream broke off, and {MAX_RESUMES} tries to resume it failed")
        self.attempts += 1
        transcript.print(f"\n⚠️ The stream broke off. Resuming after {self.last_event_id} in {self.retry_s:g} s")
        await asyncio.sleep(self.retry_s)


async def read_stream(answer: httpx.Response, place: StreamCursor, transcript: Transcript) -> bool:
    """Print the events of a stream; whether it was whole. Raises `NoResult` for an error."""
    answer.stream = _LoggingByteStream(answer.stream, transcript)
    async for event in EventSource(answer).aiter_sse():
        transcript.print_detail(f"Event: {event}")
        place.update(event)
        # A block without data is no event: a retry line, or an id with a comment.
        if event.data:
            transcript.add_event(event.event, event.data)
        if event.event == "complete":
            if transcript.response is None:
                raise ClientError("The stream is complete, but no result came")
            break
    # Chatbots that end after the result have said all that matters.
    return transcript.response is not None


class _LoggingByteStream(httpx.AsyncByteStream):
    """The bytes of an answer, shown on their way: each chunk as it came, and each line once it is whole."""

    def __init__(self, stream: object, transcript: Transcript) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101  # the client is an asynchronous one
        self._stream = stream
        self._transcript = transcript
        self._rest = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._transcript.print_detail(f"Raw SSE chunk: {chunk!r}")
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._transcript.print_detail(f"Line: {line.decode(errors='replace')}")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
