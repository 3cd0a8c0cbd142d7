"""Bounds for what a model server may send: for `httpx2`, which the libraries of OpenAI and Anthropic use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from httpx2 import AsyncByteStream, Response

from openapi_server.providers.failures import ResponseTooLarge

# The longest reply takes 786 kB in one event when every character is escaped. A line is parsed in one go, on the
# event loop: 10 MB take 35 to 85 ms.
MAX_LINE_BYTES = 1_048_576


async def limit_response(response: Response) -> None:
    """A hook for responses: `ResponseTooLarge` once a line of the body, or the body of an error, is too long."""
    stream = cast("AsyncByteStream", response.stream)
    response.stream = _LimitedStream(stream, is_whole=response.is_error)


class _LimitedStream(AsyncByteStream):
    """The same bytes. `is_whole`: line ends do not count, for the library reads the body into memory as a whole."""

    def __init__(self, stream: AsyncByteStream, *, is_whole: bool) -> None:
        self._stream = stream
        self._is_whole = is_whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for piece in self._stream:
            line_end = -1 if self._is_whole else piece.rfind(b"\n")
            length = length + len(piece) if line_end < 0 else len(piece) - line_end - 1
            if length > MAX_LINE_BYTES:
                raise ResponseTooLarge
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
