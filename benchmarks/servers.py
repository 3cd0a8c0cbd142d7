"""The servers that are measured, each as a process of its own on a free port, without a developer's own settings."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_S = 120
STOP_S = 60
READY_INTERVAL_S = 0.005
KILOBYTE = 1 / 1024
# Ours: a provider without pauses; else the bench would measure the vectors of a new database, and the terminal.
SETTINGS = {"PORT": "0", "OFFLINE_WORDS_PER_S": "0", "SEMANTIC": "off", "LOG_LEVEL": "WARNING"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. `start_s`: from the start of the process to the first good answer."""

    port: int
    pid: int
    start_s: float

    @property
    def memory_mb(self) -> float:
        """What the process holds now; of several processes (gunicorn's) the largest."""
        return max(_read_status(pid, "VmRSS") for pid in _list_processes(self.pid))

    @property
    def peak_mb(self) -> float:
        """The most that it ever held."""
        return max(_read_status(pid, "VmHWM") for pid in _list_processes(self.pid))

    @property
    def cpu_s(self) -> float:
        """The processor time that it has taken, with that of its processes."""
        return sum(_read_cpu_s(pid) for pid in _list_processes(self.pid))


@contextmanager
def run_server(folder: Path | None = None, **settings: object) -> Iterator[Server]:
    """This server, all of it, over the database in the folder, by default a new one."""
    with _run_ours(["-m", "openapi_server"], folder, settings) as server:
        yield server


@contextmanager
def run_paced_server(pieces: int, per_s: float, **settings: object) -> Iterator[Server]:
    """This server with a provider that streams `pieces` texts at `per_s`; 0: without pauses."""
    with _run_ours(["-m", "benchmarks.paced_server", str(pieces), str(per_s)], None, settings) as server:
        yield server


@contextmanager
def _run_ours(arguments: Sequence[str], folder: Path | None, settings: Mapping[str, object]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as new:
        given = {name: str(value) for name, value in settings.items()}
        variables = {**SETTINGS, "SQLITE_PATH": f"{folder or new}/zoo.sqlite3", **given}
        began_s = time.perf_counter()
        with _run([sys.executable, *arguments], Path(new), variables) as process:
            assert process.stdout is not None
            found = (re.search(r"localhost:(\d+)/", line) for line in process.stdout)
            port = next((int(each[1]) for each in found if each), None)
            if port is None:
                raise RuntimeError(f"the server did not start:\n{(Path(new) / 'server.log').read_text()}")
            _wait_for_answer(port, "/ready", began_s)
            yield Server(port, process.pid, time.perf_counter() - began_s)


@contextmanager
def run_peer(command: Sequence[str]) -> Iterator[Server]:
    """Another server, by a command that serves the listening socket with the number in the place of `{fd}`."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        number = listener.fileno()
        began_s = time.perf_counter()
        port = listener.getsockname()[1]
        with _run([each.format(fd=number) for each in command], Path(folder), {}, pass_fds=(number,)) as process:
            _wait_for_answer(port, "/health", began_s, process, Path(folder) / "server.log")
            yield Server(port, process.pid, time.perf_counter() - began_s)


@contextmanager
def _run(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[str]]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, pass_fds=pass_fds
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait_for_answer(
    port: int, path: str, began_s: float, process: subprocess.Popen[str] | None = None, log: Path | None = None
) -> None:
    while not _is_answered(port, path):
        if time.perf_counter() > began_s + START_S or (process and process.poll() is not None):
            raise RuntimeError(f"no answer to {path} on port {port}:\n{log.read_text() if log else ''}")
        time.sleep(READY_INTERVAL_S)


def _is_answered(port: int, path: str) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)) as connection:
        try:
            connection.request("GET", path)
            with connection.getresponse() as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False


def _list_processes(pid: int) -> list[int]:
    """The process, and those that it has started."""
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (thread / "children").read_text().split())
    return [pid, *children]


def _read_status(pid: int, name: str) -> float:
    """A size in the process's status, in megabytes."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status[name].split()[0]) * KILOBYTE


def _read_cpu_s(pid: int) -> float:
    # The fields behind the name, which may have blanks in it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
