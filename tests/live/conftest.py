"""The server that the live tests share; `start_server` gives a test one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults, but for its port and its data; do not stop it."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), OFFLINE_WORDS_PER_S=60)
    try:
        yield process
    finally:
        assert process.stop() == 0
