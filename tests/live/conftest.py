"""Servers for the live tests: one that all may share, and as many of one's own as a test starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.live.processes import ServerProcess


class StartsServer(Protocol):
    def __call__(self, **settings: object) -> ServerProcess: ...


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults, but for its port and its data; do not stop it."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), OFFLINE_WORDS_PER_S=60)
    try:
        yield process
    finally:
        assert process.stop() == 0


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartsServer]:
    """Starts servers with settings of the test's choice; all are stopped at its end."""
    processes: list[ServerProcess] = []
    folder = tmp_path_factory.mktemp("server")

    def start(**settings: object) -> ServerProcess:
        processes.append(ServerProcess(folder, **settings))
        return processes[-1]

    try:
        yield start
    finally:
        for process in processes:
            process.stop()
