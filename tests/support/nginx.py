"""A real nginx in front of a server, with the configuration that `docs/proxies.md` shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.processes import ROOT
from tests.support.timing import wait_until

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


def find_nginx() -> str:
    """Its path; without one the test is skipped, or fails where services are required."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail("nginx is required here, and is not installed")
    if found is None:
        pytest.skip("nginx is not installed")
    return found


class Nginx:
    """nginx on a free port, until the block ends. It serves the server below `/zoo/`."""

    def __init__(self, server_url: str, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/zoo"
        (location,) = re.findall(
            r"```nginx\n(.*?)```", (ROOT / "docs/proxies.md").read_text(encoding="utf-8"), re.DOTALL
        )
        location = location.replace("http://127.0.0.1:8080", server_url)
        text = _CONFIGURATION.format(folder=folder, port=self.port, location=location)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nginx:
        command = [find_nginx(), "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._is_listening, within_s=20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def _is_listening(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0
