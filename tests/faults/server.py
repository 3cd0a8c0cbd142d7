"""A server with everything real but the model, which answers as the message says: `python -m tests.faults.server`.

It notes each call of the mind beside the database, and can kill itself at points that nobody can hit from outside.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

from openapi_server.config import load_settings
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import TurnRecord
from openapi_server.protocols import ReplyEnd, WholeReply
from openapi_server.server import run
from openapi_server.storage.sqlite.store import SqliteStore
from tests.fakes import SingleModelProvider
from tests.faults.scripts import Script

CALLS = "calls"


class ScriptedProvider(SingleModelProvider):
    """A mind that follows the script in the visitor's message."""

    model = "scripted"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Appended to by every server process that shares the folder: one short write a line is atomic.
        self._calls = os.open(folder / CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        script = Script.parse(prompt.message)
        os.write(self._calls, f"{script.mark}\n".encode())
        if script.reports_tasks:
            yield f"{len(asyncio.all_tasks())} tasks."
            yield ReplyEnd()
            return
        yield WholeReply(script.reply)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number, text in enumerate(script.texts):
            await self._follow_fault(script, number)
            due_s = began_s + (number + 1) / script.per_s if script.per_s else 0.0
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            yield text
        await self._follow_fault(script, script.pieces)
        yield ReplyEnd()

    async def _follow_fault(self, script: Script, said: int) -> None:
        if script.die_after == said:
            die_once(self._folder, script)
        if script.hang_after == said:
            await asyncio.Event().wait()


def die_once(folder: Path, script: Script) -> None:
    """`kill -9` of this very process; not again when the restarted server is asked the same."""
    if not has_died(folder, script):
        _marker_path(folder, script).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def has_died(folder: Path, script: Script) -> bool:
    return _marker_path(folder, script).exists()


def _marker_path(folder: Path, script: Script) -> Path:
    return folder / f"died-{script.mark}"


def install_crash_points(folder: Path) -> None:
    """Let a turn whose script says so end the process right before or after a step of the store or the log."""
    scripts: dict[str, Script] = {}

    def script_of(turn: TurnRecord | str) -> Script:
        if isinstance(turn, TurnRecord):
            scripts[turn.turn_id] = Script.parse(turn.message)
            return scripts[turn.turn_id]
        return scripts.get(turn, Script())

    def mortal(name: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(step)
        async def run_step(self: object, turn: TurnRecord | str, *args: Any, **kwargs: Any) -> Any:
            script = script_of(turn)
            if script.die == f"before {name}":
                die_once(folder, script)
            result = await step(self, turn, *args, **kwargs)
            if script.die == f"after {name}":
                die_once(folder, script)
            return result

        return run_step

    for owner, name in ((SqliteStore, "begin_turn"), (MemoryEventLog, "create"), (SqliteStore, "settle_turn")):
        setattr(owner, name, mortal(name, getattr(owner, name)))


def main() -> None:
    settings = load_settings()
    folder = settings.sqlite_path.parent
    install_crash_points(folder)
    run(settings, ScriptedProvider(folder))


if __name__ == "__main__":
    main()
