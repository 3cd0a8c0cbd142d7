"""Processes under test: servers, `zoochat mock` and commands; servers listen on a port that the system chose.

None of them sees a developer's own settings, proxies or terminal.
"""

from __future__ import annotations

import asyncio
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from typing import ClassVar

from openapi_server.clock import SystemClock
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.fork_server import ForkedProcess
from tests.support.scripted_server import CALLS
from tests.support.timing import wait_until

ROOT = Path(__file__).parent.parent.parent
# Bounds for a busy machine, not measures.
START_S = 120
STOP_S = 60
END_S = 60
LOGGED_WITHIN_S = 10
_URL = re.compile(r"Server\s+http://localhost:(\d+)/")


def make_environment(**variables: object) -> dict[str, str]:
    """What a process needs to run from this checkout, and the given variables."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    given = {name: str(value) for name, value in variables.items()}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", **given}


def start_process(
    module: str, *arguments: str, folder: Path, log_path: Path, is_fresh: bool = False, variables: Mapping[str, object]
) -> Popen[str] | ForkedProcess:
    """`python -m MODULE ARGUMENTS`; its standard error goes to the log.

    `is_fresh`: by a new interpreter, as at a real start, and not by the fork server, which takes a third of the time.
    """
    environment = make_environment(**variables)
    with log_path.open("wb") as log:
        if not is_fresh:
            return ForkedProcess(module, list(arguments), folder, environment, log.fileno())
        command = [sys.executable, "-m", module, *arguments]
        return Popen(command, cwd=folder, env=environment, stdout=PIPE, stderr=log, encoding="utf-8")


class ServerProcess:
    """A server with the given settings, in a process of its own over the database in the folder, at `url`."""

    module: ClassVar[str] = "openapi_server"
    is_fresh: ClassVar[bool] = False
    defaults: ClassVar[dict[str, object]] = {"VALIDATE_RESPONSES": "true"}

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.log_path = folder / f"server-{time.monotonic_ns()}.log"
        self.process = self.start(folder, self.log_path, **settings)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = self._wait_for_port()
        except BaseException:
            self.process.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    @classmethod
    def start(cls, folder: Path, log_path: Path, **settings: object) -> Popen[str] | ForkedProcess:
        """The process, as soon as there is one."""
        # A new database has no vectors beside it: every server would compute for half a minute what no test here asks.
        variables = {"PORT": "0", "SQLITE_PATH": folder / "zoo.sqlite3", "SEMANTIC": "off", **cls.defaults, **settings}
        return start_process(cls.module, folder=folder, log_path=log_path, is_fresh=cls.is_fresh, variables=variables)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text: str, count: int = 1) -> str:
        """The log, when it has the text that often: a line may be written after the answer that it is about."""
        wait_until(lambda: self.log.count(text) >= count, LOGGED_WITHIN_S)
        log = self.log
        assert log.count(text) == count, log
        return log

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_S)
        except TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reader.join(5)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _wait_for_port(self) -> int:
        deadline_s = time.monotonic() + START_S
        while True:
            line = self._lines.get(timeout=max(0.1, deadline_s - time.monotonic()))
            if line is None:
                raise AssertionError(f"the server did not start:\n{self.log}")
            found = _URL.search(line)
            if found:
                return int(found[1])


class FreshServerProcess(ServerProcess):
    """A server that is started as by hand, for tests of the start itself."""

    is_fresh = True


class ScriptedServer(ServerProcess):
    """A server whose model follows the script in each message."""

    module = "tests.support.scripted_server"
    # No response validation: the trials measure the server's own pace.
    defaults: ClassVar[dict[str, object]] = {}

    @property
    def footprint(self) -> Footprint:
        return measure_footprint(self.process.pid)

    async def stop_in_thread(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        return await asyncio.to_thread(self.stop, number)


class FreshScriptedServer(ScriptedServer):
    """A scripted server that is started as by hand, for tests of the start itself."""

    is_fresh = True


@asynccontextmanager
async def run_scripted(folder: Path, **settings: object) -> AsyncIterator[ScriptedServer]:
    """A server for as long as the block lasts; the block may have ended it before."""
    async with run_several(folder, 1, **settings) as servers:
        yield servers[0]


@asynccontextmanager
async def run_several(folder: Path, count: int, **settings: object) -> AsyncIterator[list[ScriptedServer]]:
    """Processes over one folder and so over one database."""
    started = await asyncio.gather(*(start_scripted(folder, **settings) for _ in range(count)), return_exceptions=True)
    servers = [server for server in started if isinstance(server, ScriptedServer)]
    try:
        for failed in started:
            if isinstance(failed, BaseException):
                raise failed
        yield servers
    finally:
        for server in servers:
            await server.stop_in_thread(signal.SIGKILL)


async def start_scripted(folder: Path, **settings: object) -> ScriptedServer:
    return await asyncio.to_thread(ScriptedServer, folder, **settings)


def count_calls(folder: Path, mark: str) -> int:
    """How often the model was asked for the script with this mark, by any process over the folder."""
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


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[SqliteStore]:
    """The database of a server in this folder, read from the file itself."""
    store = await SqliteStore.open(folder / "zoo.sqlite3", SystemClock())
    try:
        yield store
    finally:
        await store.close()


def make_command(*arguments: str) -> list[str]:
    """`zoochat ARGUMENTS`, whether it is installed or not."""
    return [sys.executable, "-m", "openapi_server", *arguments]


def run_zoochat(
    *arguments: str, folder: Path | None = None, variables: Mapping[str, object] | None = None
) -> CompletedProcess[str]:
    """Run `zoochat ARGUMENTS` to its end."""
    with TemporaryDirectory() as temporary:
        log_path = Path(temporary) / "stderr"
        process = start_process(
            "openapi_server", *arguments, folder=folder or Path.cwd(), log_path=log_path, variables=variables or {}
        )
        killer = threading.Timer(END_S, process.kill)
        killer.start()
        assert process.stdout is not None
        with process.stdout as stdout:
            output = stdout.read()
        code = process.wait(END_S)
        killer.cancel()
        return CompletedProcess(["zoochat", *arguments], code, output, log_path.read_text(encoding="utf-8"))


class MockProcess:
    """`zoochat mock` on a port that the system chose; `url` is where it listens."""

    def __init__(self, folder: Path, *options: str, delay_s: float = 0.02, **variables: str) -> None:
        self._log_path = folder / "mock.log"
        arguments = ("mock", "--port", "0", "--delay", str(delay_s), *options)
        self._process = start_process(
            "openapi_server", *arguments, folder=folder, log_path=self._log_path, variables=variables
        )
        assert self._process.stdout is not None
        self.banner = ""
        for line in self._process.stdout:
            self.banner += line
            _, found, self.url = line.strip().partition("Server running at: ")
            if found:
                return
        raise AssertionError(f"the mock did not start:\n{self.banner}{self.log}")

    @property
    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        assert self._process.stdout is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(END_S)
        finally:
            self._process.stdout.close()
