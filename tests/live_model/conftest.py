"""Real model servers for the tests here; without their packages they are skipped, or fail where they are required."""

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

from tests.live_model.peer import missing_packages

ROOT = Path(__file__).parent.parent.parent
_RELEASED = re.compile(r"stop processing: n_tokens = (\d+)")


@dataclass(frozen=True, slots=True)
class Peer:
    """Where it listens, and what it says of its work."""

    url: str
    log_path: Path
    process: subprocess.Popen[str]

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def cancelled(self) -> int:
        """How many replies it has broken off because nobody listened any more."""
        return self.log.count("cancel task")

    @property
    def finished(self) -> list[int]:
        """The tokens, read and said, of each reply that is over, cancelled ones included."""
        return [int(count) for count in _RELEASED.findall(self.log)]


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """One for all tests that do not end it."""
    with _started(tmp_path_factory.mktemp("peer")) as started:
        yield started


@pytest.fixture
def doomed_peer(tmp_path: Path) -> Iterator[Peer]:
    """One of the test's own, which it may kill."""
    with _started(tmp_path) as started:
        yield started


@contextmanager
def _started(folder: Path) -> Iterator[Peer]:
    if missing := missing_packages():
        reason = f"not installed: {', '.join(missing)} (pip install --no-deps)"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"required here, and {reason}")
        pytest.skip(reason)
    log_path = folder / "peer.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.live_model.peer"],
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
            yield Peer(url, log_path, process)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
