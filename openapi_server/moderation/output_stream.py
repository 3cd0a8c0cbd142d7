"""A mind's speech on its way to the visitor: every piece through the gate, at the gate's own times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from openapi_server.models.errors import IdleTimeout, ProviderFailed
from openapi_server.moderation.output_buffer import Blocked, OutputBuffer, Released
from openapi_server.protocols import ReplyEnd, WholeReply

ModelOutput = AsyncGenerator[str | WholeReply | ReplyEnd, None]
SendText = Callable[[str], Awaitable[None]]


async def stream_checked(
    speech: ModelOutput, gate: OutputBuffer, idle_timeout_s: float, say: SendText
) -> ReplyEnd | Blocked:
    """Say every piece of the speech once it has passed the gate; the mind's last word, or why it may say no more.

    Raises `IdleTimeout` when the mind says nothing for `idle_timeout_s`, and whatever the speech raises, after what it
    said before that may be said. When this ends, however it does, the speech is closed. The speech runs in one task
    of its own from beginning to end: libraries that keep scopes open over a `yield` do not bear to be resumed from
    another.
    """
    passage = _CheckedStream(speech, gate, say)
    try:
        return await passage.run(idle_timeout_s)
    finally:
        await passage.close()


class _CheckedStream:
    """One task hears the mind and says what may be said at once; this one says what has waited long enough.

    Most of a busy server's time goes into pieces of replies, so a piece costs no timer: when the bell rings, whoever
    watches looks what time has brought, and hangs it up again. Only what the gate begins to hold rings it before.
    """

    def __init__(self, speech: ModelOutput, gate: OutputBuffer, say: SendText) -> None:
        self._buffer = gate
        self._send_text = say
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._due_ms: float | None = None
        self._last_piece_ms = _get_time_ms()
        # What one of the two says must not come between the pieces that the other is saying.
        self._send_lock = asyncio.Lock()
        self._reader_task = asyncio.create_task(self._read_output(speech))
        self._reader_task.add_done_callback(lambda _: self._wakeup.set())

    async def run(self, idle_timeout_s: float) -> ReplyEnd | Blocked:
        idle_ms = idle_timeout_s * 1000
        while not self._reader_task.done():
            await self._wait_for_wakeup(self._last_piece_ms + idle_ms)
            if self._reader_task.done():
                break
            if self._due_ms is not None and _get_time_ms() >= self._due_ms:
                blocked = await self._send_released(self._buffer.flush_due(_get_time_ms()))
                if blocked is not None:
                    return blocked
            if _get_time_ms() >= self._last_piece_ms + idle_ms:
                raise IdleTimeout
        return self._reader_task.result()

    async def close(self) -> None:
        self._reader_task.cancel()
        await asyncio.wait((self._reader_task,))
        if not self._reader_task.cancelled():
            # Something else was the end: nobody asks any more how the speech has ended.
            self._reader_task.exception()

    async def _read_output(self, speech: ModelOutput) -> ReplyEnd | Blocked:
        async with aclosing(speech):
            while True:
                try:
                    piece = await anext(speech)
                except StopAsyncIteration:
                    raise ProviderFailed from None
                except Exception:
                    blocked = await self._send_released(self._buffer.finish(_get_time_ms()))
                    if blocked is None:
                        raise
                    return blocked
                self._last_piece_ms = _get_time_ms()
                blocked = await self._send_released(self._feed(piece))
                if blocked is not None:
                    return blocked
                if isinstance(piece, ReplyEnd):
                    return piece

    def _feed(self, piece: str | WholeReply | ReplyEnd) -> Released | Blocked:
        if isinstance(piece, str):
            return self._buffer.feed(piece, self._last_piece_ms)
        return (
            self._buffer.check_whole_reply(piece.text)
            if isinstance(piece, WholeReply)
            else self._buffer.finish(self._last_piece_ms)
        )

    async def _send_released(self, passed: Released | Blocked) -> Blocked | None:
        """Say what has passed; what has not is the end."""
        if isinstance(passed, Blocked):
            return passed
        if passed.pieces:
            async with self._send_lock:
                for text in passed.pieces:
                    await self._send_text(text)
        if self._buffer.due_ms != self._due_ms:
            self._due_ms = self._buffer.due_ms
            self._wakeup.set()
        return None

    async def _wait_for_wakeup(self, silent_ms: float) -> None:
        """Until something has changed, or until it is time to look again. Some loops ring a little early."""
        until_ms = silent_ms if self._due_ms is None else min(silent_ms, self._due_ms)
        timer = self._loop.call_later(max(0.0, until_ms - _get_time_ms()) / 1000, self._wakeup.set)
        try:
            await self._wakeup.wait()
        finally:
            timer.cancel()
        self._wakeup.clear()


def _get_time_ms() -> float:
    """Not the loop's time, which costs a system call in some loops."""
    return time.monotonic() * 1000
