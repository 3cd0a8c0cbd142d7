"""One real model server for all tests here; without its packages they are skipped, or fail where they are required."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live_model.peer import missing_packages

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Peer:
    """Where it listens, and what it says of its work."""

    url: str
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    if missing := missing_packages():
        reason = f"not installed: {', '.join(missing)} (pip install --no-deps)"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"required here, and {reason}")
        pytest.skip(reason)
    log_path = tmp_path_factory.mktemp("peer") / "peer.log"
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
            yield Peer(url, log_path)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
