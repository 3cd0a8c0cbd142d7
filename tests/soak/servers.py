"""The server processes under soak, at ports that they keep over restarts, and what they hold."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import IO

import httpx

from tests.support.processes import make_environment

START_S, STOP_S = 180, 60
_SAMPLE = re.compile(r"^(zoochat_\w+(?:{[^}]*})?) (\S+)$", re.MULTILINE)


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class SoakServer:
    """One server over the folder's database; several may run over the same one. `log_bytes`: of all its lives."""

    def __init__(self, name: str, folder: Path, **settings: object) -> None:
        self.name = name
        self.port, self._metrics_port = find_free_port(), find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log_path = folder / f"{name}.log"
        self._folder = folder
        self._settings = {
            "PORT": self.port,
            "METRICS": "both",
            "METRICS_PORT": self._metrics_port,
            "LOG_FORMAT": "json",
            "SEMANTIC": "off",
            "SQLITE_PATH": folder / "zoo.sqlite3",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._unread: IO[bytes] | None = None
        self._log_writers: list[subprocess.Popen[bytes]] = []
        self.is_expected_up = False

    async def start(self, *, has_unread_log: bool = False) -> None:
        """Until it is ready. `has_unread_log`: its log is a pipe that nobody reads."""
        command = [sys.executable, "-m", "openapi_server"]
        environment = make_environment(**self._settings)
        with self._log_path.open("ab") as log:
            # By a process of its own, which has the room that the server lacks while its disk is full.
            writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)  # noqa: ASYNC220
        target = subprocess.PIPE if has_unread_log else writer.stdin
        self.process = subprocess.Popen(  # noqa: ASYNC220  # takes a few milliseconds
            command, cwd=self._folder, env=environment, stdout=subprocess.DEVNULL, stderr=target
        )
        assert writer.stdin is not None
        # It ends with the server, whose copy of the pipe is the last one.
        writer.stdin.close()
        self._log_writers = [*(each for each in self._log_writers if each.poll() is None), writer]
        self._unread = self.process.stderr
        await self._wait_until_ready()
        self.is_expected_up = True

    async def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_S
        async with httpx.AsyncClient(base_url=self.url) as client:
            while True:
                try:
                    if (await client.get("/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                assert self.process is not None
                assert self.process.poll() is None, f"{self.name} did not start: see {self._log_path}"
                assert time.monotonic() < deadline_s, f"{self.name} was not ready in time"
                await asyncio.sleep(0.1)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code."""
        self.is_expected_up = False
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return await asyncio.to_thread(self.process.wait, STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._unread is not None:
            self._unread.close()
            self._unread = None
        for writer in self._log_writers:
            writer.wait(STOP_S)

    def limit_file_size(self, size: int | None) -> None:
        """Let every write of the process beyond this size fail, as on a full disk; None: no limit."""
        assert self.process is not None
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    @property
    def log_bytes(self) -> int:
        return self._log_path.stat().st_size

    def read_footprint(self) -> dict[str, float]:
        """Resident memory in MB, threads and open files."""
        assert self.process is not None
        proc = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return {
            "memory": int(status["VmRSS"].split()[0]) / 1024,
            "threads": int(status["Threads"]),
            "files": len(list((proc / "fd").iterdir())),
        }

    async def read_metrics(self) -> dict[str, float]:
        """The metrics with their labels, as the page writes them."""
        async with httpx.AsyncClient(timeout=30) as client:
            page = (await client.get(f"http://127.0.0.1:{self._metrics_port}/metrics")).text
        return {name: float(value) for name, value in _SAMPLE.findall(page)}


def count_rows(path: Path) -> dict[str, int]:
    """The rows of every table, read from the file itself."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: db.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608  # names of our own schema
            for table in tables
            if not table.startswith("sqlite_")
        }


def measure_store_mb(path: Path) -> float:
    """The database with its write-ahead log."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists()) / 1024 / 1024
