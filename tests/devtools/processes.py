"""The tools as people run them: each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live.processes import ROOT

START_S = 30
END_S = 30


def make_environment(**variables: str) -> dict[str, str]:
    """A bare one: nothing of a developer's own settings, proxies or terminal."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "VIRTUAL_ENV")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", **variables}


def make_command(*arguments: str) -> list[str]:
    """`zoochat ARGUMENTS`, whether it is installed or not."""
    return [sys.executable, "-m", "openapi_server", *arguments]


def run_zoochat(
    *arguments: str, folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `zoochat ARGUMENTS` to its end."""
    return subprocess.run(
        make_command(*arguments),
        cwd=folder,
        env=make_environment(**(variables or {})),
        capture_output=True,
        encoding="utf-8",
        timeout=END_S,
    )


class MockProcess:
    """`zoochat mock` on a port that the system chose; `url` is where it listens."""

    def __init__(self, folder: Path, delay_s: float = 0.02, **variables: str) -> None:
        self._log_path = folder / "mock.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                make_command("mock", "--port", "0", "--delay", str(delay_s)),
                cwd=folder,
                env=make_environment(**variables),
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
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
