"""A TCP proxy that pauses, slows down, resets or half-closes its connections, as networks do."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tests.support.connections import close, connect, reset

# Small buffers on the way: what a client does not take in is soon felt by the server.
BUFFER_BYTES = 4096


class TcpProxy:
    """Forwards to `port`. What it does to the answers, it does to those of all its connections.

    The first answer that has the text `cut_behind` is cut there, once.
    """

    def __init__(self, port: int, cut_behind: bytes | None = None) -> None:
        self.bytes_per_s: float | None = None
        self.cut_behind = cut_behind
        self._to = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def pause(self) -> None:
        self._flows.clear()

    def reset(self) -> None:
        """Cut every connection on both sides, with RST."""
        for writer in [writer for pair in self._writers for writer in pair]:
            reset(writer)
        self._writers.clear()

    def half_close(self) -> None:
        """Tell the server that nothing more will be asked, and go on listening."""
        for _, upstream in self._writers:
            upstream.write_eof()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, upstream = await connect(self._to, receive_buffer=BUFFER_BYTES)
        self._writers.append((writer, upstream))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(reader, upstream))
                both.create_task(self._answer(answers, writer))
        except* OSError:
            pass  # the other side is gone, as trials want it
        finally:
            close(writer)
            close(upstream)

    async def _ask(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            upstream.write(piece)

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        while True:
            await self._flows.wait()
            rate = self.bytes_per_s
            piece = await answers.read(1 if rate else 65_536)
            await self._flows.wait()
            if not piece:
                writer.write_eof()
                return
            seen = seen + piece if self.cut_behind else b""
            if self.cut_behind and self.cut_behind in seen:
                rest = seen.partition(self.cut_behind)[2]
                writer.write(piece.removesuffix(rest))
                await writer.drain()
                self.cut_behind = None
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(len(piece) / rate if rate else 0)
