"""A real Redis for tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.timing import poll_until


def require_redis() -> None:
    """Skip the test on a machine without `redis-server`; with REQUIRE_SERVICES=1 it fails there."""
    if shutil.which("redis-server") is None:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail("there is no redis-server")
        pytest.skip("there is no redis-server")


class RedisServer:
    """A Redis process on a free port, which keeps nothing."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = folder
        self._options = options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._folder),
            *self._options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        return self.process

    async def wait_until_ready(self) -> None:
        async def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.port)) == 0

        await poll_until(answers, within_s=20)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(20)
