"""Streams a model's output to the visitor through an `OutputBuffer`, which checks it and says when text may leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from openapi_server.models.errors import IdleTimeout, ProviderFailed
from openapi_server.models.hidden_characters import HiddenCharacterRemover, remove_hidden_characters
from openapi_server.moderation.output_buffer import Blocked, OutputBuffer, Released
from openapi_server.protocols import KeepAlive, ReplyEnd, WholeReply
from openapi_server.worker_threads import run_by_size

Piece = str | WholeReply | KeepAlive | ReplyEnd
ModelOutput = AsyncGenerator[Piece, None]
SendTexts = Callable[[Sequence[str]], Awaitable[None]]
# The check of as much text takes a few milliseconds.
_MAX_PART_CHARS = 500
_MAX_WITHOUT_PAUSE_MS = 5
# A piece takes a hundred bytes of the log beside its text. Of a reply of 470 characters, none waits for another.
_MIN_JOINED_CHARS = 16
_MAX_SMALL_PIECES, _MIN_LATER_CHARS = 1_000, 64


async def stream_checked(
    output: ModelOutput, buffer: OutputBuffer, idle_timeout_s: float, send_texts: SendTexts
) -> ReplyEnd | Blocked:
    """Send every piece of the output once the buffer has released it. Returns the output's end, or why it was blocked.

    Characters that nobody sees are removed first, so that rules see what visitors see. Small pieces that leave together
    are joined (`PieceJoiner`). What is there at the same moment is sent together: none waits for a later piece.

    Raises `IdleTimeout` when the model is silent for `idle_timeout_s`, and whatever the output raises, after the text
    before it was checked and sent. However this ends, the output is closed. It runs in one task of its own from
    beginning to end: libraries that keep cancel scopes open over a `yield` cannot be resumed from another task.
    """
    stream = _CheckedStream(output, buffer, send_texts)
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


class _NextPiece:
    """The next piece of an output, which is asked for at once: `piece` where it is there. Else await it, or `cancel`.

    `is_ready`: it need not be waited for; but there may be an error in its place, or the end.
    """

    def __init__(self, output: ModelOutput) -> None:
        self._step: Any = output.__anext__()
        self.piece: Piece | None = None
        self._error: BaseException | None = None
        self._waits_for: Any = None
        self.is_ready = True
        try:
            # As the event loop would do it: what comes back is what the output has to wait for.
            self._waits_for = self._step.send(None)
            self.is_ready = False
        except StopIteration as found:
            self.piece = found.value
        except BaseException as error:
            self._error = error

    def __await__(self) -> Generator[Any, Any, Piece]:
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self.piece is not None:
            return self.piece
        # `yield from` would begin with another step.
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:
                    waits_for = self._step.throw(error)
                else:
                    waits_for = self._step.send(sent)
        except StopIteration as found:
            piece: Piece = found.value
            return piece

    async def cancel(self) -> None:
        """End the wait for the piece, so that the output can be closed."""
        if self._waits_for is not None:
            self._waits_for.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await self


class _CheckedStream:
    """Two tasks: the reader feeds the buffer and sends what that releases at once; `run` watches the times.

    Most of a busy server's time goes into pieces of replies, so a piece sets no timer. When `run` wakes up, it looks
    at the clock and waits again. It is woken before only when the time changes at which held text becomes due.
    """

    def __init__(self, output: ModelOutput, buffer: OutputBuffer, send_texts: SendTexts) -> None:
        self._buffer = buffer
        self._send_texts = send_texts
        self._remover = HiddenCharacterRemover()
        self._joiner = PieceJoiner()
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._due_ms: float | None = None
        self._last_piece_ms = self._last_pause_ms = _get_time_ms()
        # What was released and is to be sent before anybody waits for anything.
        self._released: list[str] = []
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
                blocked = self._release(self._buffer.flush_due(_get_time_ms()))
                await self._send_released()
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
                next_piece = _NextPiece(output)
                if not next_piece.is_ready:
                    await self._send_before(next_piece)
                try:
                    piece = next_piece.piece if next_piece.piece is not None else await next_piece
                except StopAsyncIteration:
                    await self._send_released()
                    raise ProviderFailed from None
                except Exception:
                    # The reader is waiting for the text before the error.
                    blocked = self._release_rest()
                    await self._send_released()
                    if blocked is None:
                        raise
                    return blocked
                self._last_piece_ms = _get_time_ms()
                if not next_piece.is_ready:
                    # Others have run meanwhile.
                    self._last_pause_ms = self._last_piece_ms
                if isinstance(piece, str) and len(piece) <= _MAX_PART_CHARS:
                    end: Blocked | ReplyEnd | None = self._feed(self._remover.feed(piece))
                else:
                    end = await self._take(piece)
                if end is not None:
                    await self._send_released()
                    return end
                if self._last_piece_ms - self._last_pause_ms > _MAX_WITHOUT_PAUSE_MS:
                    await self._let_others_run()

    async def _take(self, piece: Piece) -> Blocked | ReplyEnd | None:
        """What ends the stream, if the piece does."""
        if isinstance(piece, str):
            return await self._take_text(piece)
        if isinstance(piece, ReplyEnd):
            return self._release_rest() or piece
        return await self._take_whole_reply(piece) if isinstance(piece, WholeReply) else None

    async def _take_text(self, text: str) -> Blocked | None:
        """Feed a long piece in parts, between which the event loop does other work."""
        for start in range(0, len(text), _MAX_PART_CHARS):
            if start and _get_time_ms() - self._last_pause_ms > _MAX_WITHOUT_PAUSE_MS:
                await self._let_others_run()
            blocked = self._feed(self._remover.feed(text[start : start + _MAX_PART_CHARS]))
            if blocked is not None:
                return blocked
        return None

    async def _take_whole_reply(self, reply: WholeReply) -> Blocked | None:
        await self._send_released()
        text = remove_hidden_characters(reply.text)
        # In one go, so that not even its harmless beginning leaves when the rest does not pass.
        category = await run_by_size(len(text), lambda: self._buffer.find_category(text), _MAX_PART_CHARS)
        return self._release(self._buffer.accept_whole_reply(text, category))

    def _release_rest(self) -> Blocked | None:
        """The output has ended: release what has waited for more."""
        blocked = self._feed(self._remover.finish())
        blocked = blocked or self._release(self._buffer.finish(_get_time_ms()))
        if blocked is None and (text := self._joiner.finish()):
            self._released.append(text)
        return blocked

    async def _let_others_run(self) -> None:
        """Hundreds of pieces may be there at once: then nothing else has waited since the last one."""
        await self._send_released()
        await asyncio.sleep(0)
        self._last_pause_ms = _get_time_ms()

    def _feed(self, text: str) -> Blocked | None:
        return self._release(self._buffer.feed(text, self._last_piece_ms)) if text else None

    def _release(self, result: Released | Blocked) -> Blocked | None:
        """Keep what was released for `_send_released`. `Blocked` is returned, and ends the stream."""
        if isinstance(result, Blocked):
            return result
        if result.pieces:
            self._released.extend(self._joiner.join(result.pieces))
        due_ms = self._buffer.due_ms
        if due_ms != self._due_ms:
            self._due_ms = due_ms
            self._wakeup.set()
        return None

    async def _send_before(self, next_piece: _NextPiece) -> None:
        """Send what is there before the next piece is waited for."""
        try:
            await self._send_released()
        except BaseException:
            await next_piece.cancel()
            raise

    async def _send_released(self) -> None:
        if self._released:
            async with self._send_lock:
                # Taken in here: the other task may have been sending what came before.
                texts, self._released = self._released, []
                if texts:
                    await self._send_texts(texts)

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
