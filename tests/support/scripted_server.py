"""A server whose model follows the script in each message; everything else is real.

`python -m tests.support.scripted_server` starts it. It writes down each call of the model beside the database, and can
kill itself at points of a turn that cannot be hit from outside.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openapi_server.config import load_settings
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import TurnRecord
from openapi_server.protocols import ReplyEnd, WholeReply
from openapi_server.server import run
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.fakes import SingleModelProvider

CALLS = "calls"


@dataclass(frozen=True, slots=True)
class Script:
    """How the model answers one message: the script is the message, so each turn chooses for itself.

    It says `pieces` of at least `size` characters, `per_s` a second (0: all at once); `mark` tells scripts apart.
    After `hang_after` pieces it says nothing more. After `die_after` pieces, or at the step that `die` names ("before
    storing the turn", "after creating the log", "after storing the outcome"), the server kills itself, once for each
    mark. With `reports_tasks` it answers with the number of asyncio tasks.

    >>> Script(pieces=2, mark="hello").message
    '{"pieces": 2, "mark": "hello"}'
    >>> Script.parse('{"pieces": 2}').reply
    'Tick 1. Tick 2. '
    """

    pieces: int = 3
    per_s: float = 0
    size: int = 0
    mark: str = ""
    hang_after: int | None = None
    die_after: int | None = None
    die: str | None = None
    reports_tasks: bool = False

    @classmethod
    def parse(cls, message: str) -> Script:
        """What the message asks for; the defaults when it is no script."""
        try:
            return cls(**json.loads(message))
        except (ValueError, TypeError):
            return cls()

    @property
    def message(self) -> str:
        defaults = asdict(Script())
        return json.dumps({name: value for name, value in asdict(self).items() if value != defaults[name]})

    @property
    def texts(self) -> Iterator[str]:
        """Each piece is a sentence: safety may hold text back until its sentence is whole."""
        return (f"{f'Tick {number}'.ljust(self.size, '!')}. " for number in range(1, self.pieces + 1))

    @property
    def reply(self) -> str:
        return "".join(self.texts)


class ScriptedProvider(SingleModelProvider):
    """A model that follows the script in the visitor's message."""

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

    def find_script(turn: TurnRecord | str) -> Script:
        if isinstance(turn, TurnRecord):
            scripts[turn.turn_id] = Script.parse(turn.message)
            return scripts[turn.turn_id]
        return scripts.get(turn, Script())

    def wrap_step(label: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(step)
        async def run_step(self: object, turn: TurnRecord | str, *args: Any, **kwargs: Any) -> Any:
            script = find_script(turn)
            if script.die == f"before {label}":
                die_once(folder, script)
            result = await step(self, turn, *args, **kwargs)
            if script.die == f"after {label}":
                die_once(folder, script)
            return result

        return run_step

    steps: tuple[tuple[type, str, Callable[..., Awaitable[Any]]], ...] = (
        (SqliteStore, "storing the turn", SqliteStore.begin_turn),
        (MemoryEventLog, "creating the log", MemoryEventLog.create),
        (SqliteStore, "storing the outcome", SqliteStore.settle_turn),
    )
    for owner, label, step in steps:
        setattr(owner, step.__name__, wrap_step(label, step))


def main() -> None:
    settings = load_settings()
    folder = settings.sqlite_path.parent
    install_crash_points(folder)
    run(settings, ScriptedProvider(folder))


if __name__ == "__main__":
    main()
