"""Real model servers. Without their packages the tests are skipped, or fail if `REQUIRE_SERVICES` is 1."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live_model.model_server import find_missing_packages

ROOT = Path(__file__).parent.parent.parent
_RELEASED = re.compile(r"stop processing: n_tokens = (\d+)")


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A running model server, and its log."""

    url: str
    log_path: Path
    process: subprocess.Popen[str]

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def cancelled(self) -> int:
        """How many replies it cancelled because the client had left."""
        return self.log.count("cancel task")

    @property
    def finished(self) -> list[int]:
        """The tokens of the prompt and the reply, for each reply that has ended, also when cancelled."""
        return [int(count) for count in _RELEASED.findall(self.log)]


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """One server for all tests that do not stop it."""
    with _start_model_server(tmp_path_factory.mktemp("model_server")) as started:
        yield started


@pytest.fixture
def disposable_model_server(tmp_path: Path) -> Iterator[ModelServer]:
    """A server for one test, which may kill it."""
    with _start_model_server(tmp_path) as started:
        yield started


@contextmanager
def _start_model_server(folder: Path) -> Iterator[ModelServer]:
    if missing := find_missing_packages():
        reason = f"not installed: {', '.join(missing)} (pip install --no-deps)"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"required here, and {reason}")
        pytest.skip(reason)
    log_path = folder / "model_server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.live_model.model_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), log_path.read_text(errors="replace")
            yield ModelServer(url, log_path, process)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
