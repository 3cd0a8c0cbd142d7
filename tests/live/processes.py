"""A real server in a process of its own, on a port that the system chose."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parent.parent.parent
START_S = 30
STOP_S = 30
_URL = re.compile(r"The zoo is open at\s+http://localhost:(\d+)/")


def launch_server(module: str, folder: Path, log_path: Path, **settings: object) -> subprocess.Popen[str]:
    """`python -m MODULE`, a server over the folder's database, on a port that the system chooses."""
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")},
        "PYTHONPATH": str(ROOT),
        "PORT": "0",
        "SQLITE_PATH": str(folder / "zoo.sqlite3"),
        # A new database has no vectors beside it: every server would compute for half a minute what no test here asks.
        "SEMANTIC": "off",
        **{name: str(value) for name, value in settings.items()},
    }
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


class ServerProcess:
    """A server with the given settings, in a process of its own; `url` is where it listens."""

    module: ClassVar[str] = "openapi_server"
    defaults: ClassVar[dict[str, object]] = {"VALIDATE_RESPONSES": "true"}

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.log_path = folder / f"server-{time.monotonic_ns()}.log"
        self.process = launch_server(self.module, folder, self.log_path, **{**self.defaults, **settings})
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
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._pump.join(5)
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
