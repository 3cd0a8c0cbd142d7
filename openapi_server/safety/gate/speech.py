"""A mind's speech on its way to the visitor: every piece through the gate, at the gate's own times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum, auto

from openapi_server.errors import IdleTimeout
from openapi_server.interfaces import Composed, Spoken
from openapi_server.safety.gate.hold_back import Blocked, HoldBack, Released

Speech = AsyncGenerator[str | Composed | Spoken, None]

_READ_AHEAD = 64
"""Pieces that a mind may be ahead of the gate. More would only be memory."""


class _Bell(Enum):
    """What rings between the pieces: the gate is due, or the mind may have been silent for too long."""

    DUE = auto()
    SILENCE = auto()


_Heard = str | Composed | Spoken | Exception


async def checked(
    speech: Speech, gate: HoldBack, idle_timeout_s: float
) -> AsyncGenerator[str | Spoken | Blocked, None]:
    """The speech, a piece at a time, once it has passed the gate. `Blocked` is the last word, and closes the speech.

    Raises `IdleTimeout` when the mind says nothing for `idle_timeout_s`, and whatever the speech raises, after what it
    said before that may be said. Closing this
    closes the speech. The speech runs in one task of its own from beginning to end: libraries that keep scopes open
    over a `yield` do not bear to be resumed from another.
    """
    inbox = _Inbox(idle_timeout_s)
    pump = asyncio.create_task(_pump(speech, inbox))
    try:
        while True:
            piece = await inbox.next(gate.due_ms)
            passed = gate.finish(_now_ms()) if isinstance(piece, Exception) else _pass(piece, gate)
            if isinstance(passed, Blocked):
                yield passed
                return
            for text in passed.pieces:
                yield text
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, Spoken):
                yield piece
                return
    finally:
        inbox.close()
        pump.cancel()
        await asyncio.wait((pump,))


class _Inbox:
    """What a mind has said and nobody has judged yet.

    A timer for each piece would cost more than the piece: the bell for a silence is hung up once, and looks when it
    rings whether there was one; the bell for the gate hangs only while the gate holds something.
    """

    def __init__(self, idle_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[_Heard | _Bell] = asyncio.Queue(_READ_AHEAD)
        self._idle_timeout_s = idle_timeout_s
        self._heard_ms = _now_ms()
        self._due_ms: float | None = None
        self._due_bell: asyncio.TimerHandle | None = None
        self._silence_bell = self._loop.call_later(idle_timeout_s, self._ring, _Bell.SILENCE)

    async def put(self, piece: _Heard) -> None:
        """Waits while there is no room."""
        await self._queue.put(piece)

    async def next(self, due_ms: float | None) -> _Heard | None:
        """The next piece; None when the gate is due before it comes. Raises `IdleTimeout`."""
        if due_ms != self._due_ms:
            self._hang_due_bell(due_ms)
        while True:
            piece = await self._queue.get()
            if not isinstance(piece, _Bell):
                self._heard_ms = _now_ms()
                return piece
            if piece is _Bell.DUE:
                self._due_ms = None
                return None
            self._listen_on()

    def close(self) -> None:
        self._hang_due_bell(None)
        self._silence_bell.cancel()

    def _hang_due_bell(self, due_ms: float | None) -> None:
        if self._due_bell is not None:
            self._due_bell.cancel()
        self._due_ms, self._due_bell = due_ms, None
        if due_ms is not None:
            self._due_bell = self._loop.call_later(max(0.0, due_ms - _now_ms()) / 1000, self._ring, _Bell.DUE)

    def _ring(self, bell: _Bell) -> None:
        """Nobody waits for a bell while the queue is full: what is in it is heard first, then it is hung up anew."""
        if not self._queue.full():
            self._queue.put_nowait(bell)
        elif bell is _Bell.DUE:
            self._due_ms = None
        else:
            self._listen_on()

    def _listen_on(self) -> None:
        """Hang the bell up again, for when the silence since the last piece would be too long."""
        left_s = self._idle_timeout_s - (_now_ms() - self._heard_ms) / 1000
        if left_s <= 0 and self._queue.empty():
            raise IdleTimeout
        self._silence_bell = self._loop.call_later(max(left_s, 0.001), self._ring, _Bell.SILENCE)


async def _pump(speech: Speech, inbox: _Inbox) -> None:
    try:
        async with aclosing(speech):
            async for piece in speech:
                await inbox.put(piece)
    except Exception as error:
        # Whoever reads the inbox is waiting for it, and raises it.
        await inbox.put(error)


def _pass(piece: str | Composed | Spoken | None, gate: HoldBack) -> Released | Blocked:
    """Through the gate with it; None is only the passing of time."""
    if isinstance(piece, Composed):
        return gate.vouch(piece.text)
    now_ms = _now_ms()
    if piece is None:
        return gate.due(now_ms)
    return gate.finish(now_ms) if isinstance(piece, Spoken) else gate.feed(piece, now_ms)


def _now_ms() -> float:
    """Not the loop's time, which costs a system call in some loops."""
    return time.monotonic() * 1000
