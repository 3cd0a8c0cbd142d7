"""A real browser: headless Chromium that opens a page of ours, and a small server that the page reports to."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pytest

from tests.tools import NODE_MODULES

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


def chromium() -> str:
    """The browser's path; without one the test is skipped, or fails where services are required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail("Chromium is required here, and is not installed")
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


LIBRARIES = "/node_modules/"


class PageHandler(BaseHTTPRequestHandler):
    """Answers with the page or with a file of the npm packages, and keeps what is posted."""

    html: ClassVar[str]
    reports: ClassVar[queue.Queue[Any]]

    def do_GET(self) -> None:
        if self.path.startswith(LIBRARIES):
            self._answer(read_library(self.path.removeprefix(LIBRARIES)), "text/javascript")
        else:
            self._answer(self.html.encode())

    def do_POST(self) -> None:
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"")

    def _answer(self, body: bytes, media_type: str = "text/html") -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def read_library(path: str) -> bytes:
    """A script of an npm package. A module imports its neighbours without their ending."""
    file = NODE_MODULES / path
    return (file if file.suffix == ".js" else file.with_name(f"{file.name}.js")).read_bytes()


class Page:
    """Serves one page on a free port, and gives what its script posts to `/report`, one JSON value after the other."""

    def __init__(self, html: str, handler: type[PageHandler] = PageHandler) -> None:
        self._reports: queue.Queue[Any] = queue.Queue()
        self._handler: Any = type("Handler", (handler,), {"html": html, "reports": self._reports})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def show(self, html: str) -> None:
        """Serve another page from now on."""
        self._handler.html = html

    def report(self, timeout_s: float = 30) -> Any:
        return self._reports.get(timeout=timeout_s)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Browser:
    """Chromium with a page open, until the block ends."""

    def __init__(self, url: str, profile: Path) -> None:
        self._command = [chromium(), *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", url]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Browser:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
