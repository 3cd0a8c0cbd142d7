"""A mind's speech on its way to the visitor: every piece through the gate, at the gate's own times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from openapi_server.models.errors import IdleTimeout, ProviderFailed
from openapi_server.moderation.output.output_buffer import Blocked, HoldBack, Released
from openapi_server.protocols import Composed, Spoken

Speech = AsyncGenerator[str | Composed | Spoken, None]
Say = Callable[[str], Awaitable[None]]


async def say_checked(speech: Speech, gate: HoldBack, idle_timeout_s: float, say: Say) -> Spoken | Blocked:
    """Say every piece of the speech once it has passed the gate; the mind's last word, or why it may say no more.

    Raises `IdleTimeout` when the mind says nothing for `idle_timeout_s`, and whatever the speech raises, after what it
    said before that may be said. When this ends, however it does, the speech is closed. The speech runs in one task
    of its own from beginning to end: libraries that keep scopes open over a `yield` do not bear to be resumed from
    another.
    """
    passage = _Passage(speech, gate, say)
    try:
        return await passage.watched(idle_timeout_s)
    finally:
        await passage.close()


class _Passage:
    """One task hears the mind and says what may be said at once; this one says what has waited long enough.

    Most of a busy server's time goes into pieces of replies, so a piece costs no timer: when the bell rings, whoever
    watches looks what time has brought, and hangs it up again. Only what the gate begins to hold rings it before.
    """

    def __init__(self, speech: Speech, gate: HoldBack, say: Say) -> None:
        self._gate = gate
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._due_ms: float | None = None
        self._heard_ms = _now_ms()
        # What one of the two says must not come between the pieces that the other is saying.
        self._saying = asyncio.Lock()
        self._hearing = asyncio.create_task(self._hear(speech))
        self._hearing.add_done_callback(lambda _: self._bell.set())

    async def watched(self, idle_timeout_s: float) -> Spoken | Blocked:
        idle_ms = idle_timeout_s * 1000
        while not self._hearing.done():
            await self._rung(self._heard_ms + idle_ms)
            if self._hearing.done():
                break
            if self._due_ms is not None and _now_ms() >= self._due_ms:
                blocked = await self._let(self._gate.due(_now_ms()))
                if blocked is not None:
                    return blocked
            if _now_ms() >= self._heard_ms + idle_ms:
                raise IdleTimeout
        return self._hearing.result()

    async def close(self) -> None:
        self._hearing.cancel()
        await asyncio.wait((self._hearing,))
        if not self._hearing.cancelled():
            # Something else was the end: nobody asks any more how the speech has ended.
            self._hearing.exception()

    async def _hear(self, speech: Speech) -> Spoken | Blocked:
        async with aclosing(speech):
            while True:
                try:
                    piece = await anext(speech)
                except StopAsyncIteration:
                    raise ProviderFailed from None
                except Exception:
                    blocked = await self._let(self._gate.finish(_now_ms()))
                    if blocked is None:
                        raise
                    return blocked
                self._heard_ms = _now_ms()
                blocked = await self._let(self._passed(piece))
                if blocked is not None:
                    return blocked
                if isinstance(piece, Spoken):
                    return piece

    def _passed(self, piece: str | Composed | Spoken) -> Released | Blocked:
        if isinstance(piece, str):
            return self._gate.feed(piece, self._heard_ms)
        return self._gate.vouch(piece.text) if isinstance(piece, Composed) else self._gate.finish(self._heard_ms)

    async def _let(self, passed: Released | Blocked) -> Blocked | None:
        """Say what has passed; what has not is the end."""
        if isinstance(passed, Blocked):
            return passed
        if passed.pieces:
            async with self._saying:
                for text in passed.pieces:
                    await self._say(text)
        if self._gate.due_ms != self._due_ms:
            self._due_ms = self._gate.due_ms
            self._bell.set()
        return None

    async def _rung(self, silent_ms: float) -> None:
        """Until something has changed, or until it is time to look again. Some loops ring a little early."""
        until_ms = silent_ms if self._due_ms is None else min(silent_ms, self._due_ms)
        timer = self._loop.call_later(max(0.0, until_ms - _now_ms()) / 1000, self._bell.set)
        try:
            await self._bell.wait()
        finally:
            timer.cancel()
        self._bell.clear()


def _now_ms() -> float:
    """Not the loop's time, which costs a system call in some loops."""
    return time.monotonic() * 1000
