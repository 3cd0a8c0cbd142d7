"""Server processes of the trials, and what each of them holds of the machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.faults.server import CALLS
from tests.live.processes import ServerProcess


class ScriptedServer(ServerProcess):
    """A server whose animal follows the scripts in its visitors' messages."""

    module = "tests.faults.server"
    # Answers are checked in the suite; here the server's own pace counts.
    defaults: ClassVar[dict[str, object]] = {}

    @property
    def footprint(self) -> Footprint:
        return measure_footprint(self.process.pid)

    async def stop_in_thread(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        return await asyncio.to_thread(self.stop, number)


@asynccontextmanager
async def run_scripted(folder: Path, **settings: object) -> AsyncIterator[ScriptedServer]:
    """A server for as long as the block lasts; the trial may have ended it before."""
    async with run_several(folder, 1, **settings) as servers:
        yield servers[0]


@asynccontextmanager
async def run_several(folder: Path, count: int, **settings: object) -> AsyncIterator[list[ScriptedServer]]:
    """Processes over one folder and so over one database."""
    begun = await asyncio.gather(*(start_scripted(folder, **settings) for _ in range(count)), return_exceptions=True)
    servers = [server for server in begun if isinstance(server, ScriptedServer)]
    try:
        for failed in begun:
            if isinstance(failed, BaseException):
                raise failed
        yield servers
    finally:
        for server in servers:
            await server.stop_in_thread(signal.SIGKILL)


async def start_scripted(folder: Path, **settings: object) -> ScriptedServer:
    return await asyncio.to_thread(ScriptedServer, folder, **settings)


def count_calls(folder: Path, mark: str) -> int:
    """How often the mind was asked for the script with this mark, by whatever process."""
    return (folder / CALLS).read_text().splitlines().count(mark)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds; `peak_mb` is the most memory that it ever held."""

    peak_mb: float
    threads: int
    files: int


def measure_footprint(pid: int) -> Footprint:
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Footprint(
        peak_mb=int(status["VmHWM"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        files=len(list((proc / "fd").iterdir())),
    )
