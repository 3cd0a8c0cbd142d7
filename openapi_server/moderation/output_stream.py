"""Streams a model's output to the visitor through an `OutputBuffer`, which checks it and says when text may leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing

from openapi_server.models.errors import IdleTimeout, ProviderFailed
from openapi_server.models.hidden_characters import HiddenCharacterRemover, remove_hidden_characters
from openapi_server.moderation.output_buffer import Blocked, OutputBuffer, Released
from openapi_server.protocols import KeepAlive, ReplyEnd, WholeReply
from openapi_server.worker_threads import run_by_size

ModelOutput = AsyncGenerator[str | WholeReply | KeepAlive | ReplyEnd, None]
SendText = Callable[[str], Awaitable[None]]
# The check of as much text takes a few milliseconds.
_MAX_PART_CHARS = 500
_MAX_WITHOUT_PAUSE_MS = 5
# A piece takes a hundred bytes of the log beside its text. Of a reply of 470 characters, none waits for another.
_MIN_JOINED_CHARS = 16
_MAX_SMALL_PIECES, _MIN_LATER_CHARS = 1_000, 64


async def stream_checked(
    output: ModelOutput, buffer: OutputBuffer, idle_timeout_s: float, send_text: SendText
) -> ReplyEnd | Blocked:
    """Send every piece of the output once the buffer has released it. Returns the output's end, or why it was blocked.

    Characters that nobody sees are removed first, so that rules see what visitors see. Small pieces that leave together
    are joined (`PieceJoiner`).

    Raises `IdleTimeout` when the model is silent for `idle_timeout_s`, and whatever the output raises, after the text
    before it was checked and sent. However this ends, the output is closed. It runs in one task of its own from
    beginning to end: libraries that keep cancel scopes open over a `yield` cannot be resumed from another task.
    """
    stream = _CheckedStream(output, buffer, send_text)
    try:
        return await stream.run(idle_timeout_s)
    finally:
        await stream.close()


class PieceJoiner:
    """Joins small pieces of a reply, so that one that comes character by character does not fill the log.

    Pieces of one release leave together anyway. Behind `_MAX_SMALL_PIECES` pieces, small ones also wait for the next
    release: so many come only from a model that writes fast, or never stops.

    >>> joiner = PieceJoiner()
    >>> [*joiner.join(["R", "o", "a", "r"])], [*joiner.join(["!"])], joiner.finish()
    (['Roar'], ['!'], '')
    """

    def __init__(self) -> None:
        self._waiting = ""
        self._count = 0

    def join(self, pieces: Iterable[str]) -> list[str]:
        """The pieces of one release, as they are to be sent."""
        texts: list[str] = []
        waiting = self._waiting
        for piece in pieces:
            waiting += piece
            is_early = self._count + len(texts) < _MAX_SMALL_PIECES
            if len(waiting) >= (_MIN_JOINED_CHARS if is_early else _MIN_LATER_CHARS):
                texts.append(waiting)
                waiting = ""
        if waiting and self._count + len(texts) < _MAX_SMALL_PIECES:
            texts.append(waiting)
            waiting = ""
        self._waiting = waiting
        self._count += len(texts)
        return texts

    def finish(self) -> str:
        text, self._waiting = self._waiting, ""
        return text


class _CheckedStream:
    """Two tasks: the reader feeds the buffer and sends what that releases at once; `run` watches the times.

    Most of a busy server's time goes into pieces of replies, so a piece sets no timer. When `run` wakes up, it looks
    at the clock and waits again. It is woken before only when the time changes at which held text becomes due.
    """

    def __init__(self, output: ModelOutput, buffer: OutputBuffer, send_text: SendText) -> None:
        self._buffer = buffer
        self._send_text = send_text
        self._remover = HiddenCharacterRemover()
        self._joiner = PieceJoiner()
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._due_ms: float | None = None
        self._last_piece_ms = self._last_pause_ms = _get_time_ms()
        # Pieces that one task sends must not come between those that the other is sending.
        self._send_lock = asyncio.Lock()
        self._reader_task = asyncio.create_task(self._read_output(output))
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
            # `run` has ended for another reason. Retrieved, so that asyncio does not log it as never retrieved.
            self._reader_task.exception()

    async def _read_output(self, output: ModelOutput) -> ReplyEnd | Blocked:
        async with aclosing(output):
            while True:
                try:
                    piece = await anext(output)
                except StopAsyncIteration:
                    raise ProviderFailed from None
                except Exception:
                    # The reader is waiting for the text before the error.
                    blocked = await self._send_rest()
                    if blocked is None:
                        raise
                    return blocked
                now_ms = self._last_piece_ms = _get_time_ms()
                if isinstance(piece, str) and len(piece) <= _MAX_PART_CHARS:
                    # Nearly all are: with as few steps as there can be.
                    text = self._remover.feed(piece)
                    blocked = await self._send_released(self._buffer.feed(text, now_ms)) if text else None
                else:
                    blocked = await self._take(piece)
                if blocked is not None:
                    return blocked
                if isinstance(piece, ReplyEnd):
                    return piece
                if _get_time_ms() - self._last_pause_ms > _MAX_WITHOUT_PAUSE_MS:
                    await self._let_others_run()

    async def _take(self, piece: str | WholeReply | KeepAlive | ReplyEnd) -> Blocked | None:
        """Feed a long piece in parts, between which the event loop does other work."""
        if isinstance(piece, KeepAlive):
            return None
        if isinstance(piece, ReplyEnd):
            return await self._send_rest()
        if isinstance(piece, WholeReply):
            text = remove_hidden_characters(piece.text)
            # In one go, so that not even its harmless beginning leaves when the rest does not pass.
            category = await run_by_size(len(text), lambda: self._buffer.find_category(text), _MAX_PART_CHARS)
            return await self._send_released(self._buffer.accept_whole_reply(text, category))
        for start in range(0, len(piece), _MAX_PART_CHARS):
            if start:
                await self._let_others_run()
            blocked = await self._feed(self._remover.feed(piece[start : start + _MAX_PART_CHARS]))
            if blocked is not None:
                return blocked
        return None

    async def _send_rest(self) -> Blocked | None:
        """The output has ended: send what has waited for more."""
        blocked = await self._feed(self._remover.finish())
        blocked = blocked or await self._send_released(self._buffer.finish(_get_time_ms()))
        if blocked is None and (text := self._joiner.finish()):
            async with self._send_lock:
                await self._send_text(text)
        return blocked

    async def _let_others_run(self) -> None:
        """Hundreds of pieces may be there at once: then nothing else has waited since the last one."""
        now_ms = _get_time_ms()
        if now_ms - self._last_pause_ms > _MAX_WITHOUT_PAUSE_MS:
            await asyncio.sleep(0)
            self._last_pause_ms = _get_time_ms()

    async def _feed(self, text: str) -> Blocked | None:
        return await self._send_released(self._buffer.feed(text, self._last_piece_ms)) if text else None

    async def _send_released(self, result: Released | Blocked) -> Blocked | None:
        """Send what was released. `Blocked` is returned, and ends the stream."""
        if isinstance(result, Blocked):
            return result
        if result.pieces:
            async with self._send_lock:
                for text in self._joiner.join(result.pieces):
                    await self._send_text(text)
        due_ms = self._buffer.due_ms
        if due_ms != self._due_ms:
            self._due_ms = due_ms
            self._wakeup.set()
        return None

    async def _wait_for_wakeup(self, idle_deadline_ms: float) -> None:
        """Until woken, or until held text is due or the model was silent too long; event loops may wake up early."""
        until_ms = idle_deadline_ms if self._due_ms is None else min(idle_deadline_ms, self._due_ms)
        timer = self._loop.call_later(max(0.0, until_ms - _get_time_ms()) / 1000, self._wakeup.set)
        try:
            await self._wakeup.wait()
        finally:
            timer.cancel()
        self._wakeup.clear()


def _get_time_ms() -> float:
    """Monotonic. `loop.time()` costs a system call in some event loops."""
    return time.monotonic() * 1000
