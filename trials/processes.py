"""Server processes of the trials, and what each of them holds of the machine."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live.processes import ServerProcess
from trials.server import CALLS

ROOT = Path(__file__).parent.parent


def launch(folder: Path, log_path: Path, **settings: object) -> subprocess.Popen[str]:
    """`python -m trials.server` over the folder's database, on a port that the system chooses."""
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")},
        "PYTHONPATH": str(ROOT),
        "PORT": "0",
        "SQLITE_PATH": str(folder / "zoo.sqlite3"),
        **{name: str(value) for name, value in settings.items()},
    }
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trials.server"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


class ScriptedServer(ServerProcess):
    """A server whose animal follows the scripts in its visitors' messages."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.log_path = folder / f"server-{time.monotonic_ns()}.log"
        self.process = launch(folder, self.log_path, **settings)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._pump = threading.Thread(target=self._read, daemon=True)
        self._pump.start()
        try:
            self.port = self._wait_for_port()
        except BaseException:
            self.process.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def footprint(self) -> Footprint:
        return footprint(self.process.pid)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        return await asyncio.to_thread(self.stop, number)


@asynccontextmanager
async def scripted(folder: Path, **settings: object) -> AsyncIterator[ScriptedServer]:
    """A server for as long as the block lasts; the trial may have ended it before."""
    async with several(folder, 1, **settings) as servers:
        yield servers[0]


@asynccontextmanager
async def several(folder: Path, count: int, **settings: object) -> AsyncIterator[list[ScriptedServer]]:
    """Processes over one folder and so over one database."""
    begun = await asyncio.gather(*(start(folder, **settings) for _ in range(count)), return_exceptions=True)
    servers = [server for server in begun if isinstance(server, ScriptedServer)]
    try:
        for failed in begun:
            if isinstance(failed, BaseException):
                raise failed
        yield servers
    finally:
        for server in servers:
            await server.end(signal.SIGKILL)


async def start(folder: Path, **settings: object) -> ScriptedServer:
    return await asyncio.to_thread(ScriptedServer, folder, **settings)


def calls(folder: Path, mark: str) -> int:
    """How often the mind was asked for the script with this mark, by whatever process."""
    return (folder / CALLS).read_text().splitlines().count(mark)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds; `peak_mb` is the most memory that it ever held."""

    peak_mb: float
    threads: int
    files: int


def footprint(pid: int) -> Footprint:
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Footprint(
        peak_mb=int(status["VmHWM"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        files=len(list((proc / "fd").iterdir())),
    )
