"""A mind's speech on its way to the visitor: every piece through the gate, at the gate's own times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from openapi_server.errors import IdleTimeout
from openapi_server.interfaces import Composed, Spoken
from openapi_server.safety.gate.hold_back import Blocked, HoldBack, Released

Speech = AsyncGenerator[str | Composed | Spoken, None]

_READ_AHEAD = 64
"""Pieces that a mind may be ahead of the gate. More would only be memory."""


async def checked(
    speech: Speech, gate: HoldBack, idle_timeout_s: float
) -> AsyncGenerator[str | Spoken | Blocked, None]:
    """The speech, a piece at a time, once it has passed the gate. `Blocked` is the last word, and closes the speech.

    Raises `IdleTimeout` when the mind says nothing for `idle_timeout_s`, and whatever the speech raises, after what it
    said before that may be said. Closing this
    closes the speech. The speech runs in one task of its own from beginning to end: libraries that keep scopes open
    over a `yield` do not bear to be resumed from another.
    """
    queue: asyncio.Queue[str | Composed | Spoken | Exception] = asyncio.Queue(_READ_AHEAD)
    pump = asyncio.create_task(_pump(speech, queue))
    try:
        async for word in _through(queue, gate, idle_timeout_s):
            yield word
    finally:
        pump.cancel()
        await asyncio.wait((pump,))


async def _pump(speech: Speech, queue: asyncio.Queue[str | Composed | Spoken | Exception]) -> None:
    try:
        async with aclosing(speech):
            async for piece in speech:
                await queue.put(piece)
    except Exception as error:
        # Whoever reads the queue is waiting for it, and raises it.
        await queue.put(error)


async def _through(
    queue: asyncio.Queue[str | Composed | Spoken | Exception], gate: HoldBack, idle_timeout_s: float
) -> AsyncGenerator[str | Spoken | Blocked, None]:
    while True:
        piece = await _next(queue, gate, idle_timeout_s)
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


def _pass(piece: str | Composed | Spoken | None, gate: HoldBack) -> Released | Blocked:
    """Through the gate with it; None is only the passing of time."""
    now_ms = _now_ms()
    if piece is None:
        return gate.due(now_ms)
    if isinstance(piece, Composed):
        return gate.vouch(piece.text)
    return gate.finish(now_ms) if isinstance(piece, Spoken) else gate.feed(piece, now_ms)


async def _next(
    queue: asyncio.Queue[str | Composed | Spoken | Exception], gate: HoldBack, idle_timeout_s: float
) -> str | Composed | Spoken | Exception | None:
    """The next piece; None when the gate is due before it comes."""
    idle_ms = _now_ms() + idle_timeout_s * 1000
    due_ms = gate.due_ms
    until_ms = idle_ms if due_ms is None else min(due_ms, idle_ms)
    try:
        async with asyncio.timeout((until_ms - _now_ms()) / 1000):
            return await queue.get()
    except TimeoutError:
        if until_ms == idle_ms:
            raise IdleTimeout from None
        return None


def _now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000
