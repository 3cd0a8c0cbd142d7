"""The server that the generated clients talk to, and the documents that it serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import ServerProcess
from tests.tools import need_tools

# Programs for the tools' environment; they import clients that a test generates.
collect_ignore = ["programs"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults, only quicker; do not stop it."""
    need_tools()
    process = ServerProcess(tmp_path_factory.mktemp("server"), OFFLINE_WORDS_PER_S=200)
    try:
        yield process
    finally:
        assert process.stop() == 0
