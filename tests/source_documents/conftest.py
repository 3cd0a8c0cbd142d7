"""One real server for each document."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults, only quicker; do not stop it."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), OFFLINE_WORDS_PER_S=200)
    try:
        yield process
    finally:
        assert process.stop() == 0
