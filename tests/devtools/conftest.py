"""A mock server that the tests of the developer tools share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import MockProcess


@pytest.fixture(scope="session")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockProcess]:
    """Tests must not stop it."""
    process = MockProcess(tmp_path_factory.mktemp("mock"))
    try:
        yield process
    finally:
        assert process.stop() == 0
