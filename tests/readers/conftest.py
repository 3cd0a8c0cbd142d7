"""The readers in Node: one process for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.readers.table import NODE_READERS
from tests.support.node import NodeProcess


@pytest.fixture(scope="session")
def node_readers() -> Iterator[NodeProcess]:
    """It takes a list of jobs of `Reader.make_job`."""
    process = NodeProcess(NODE_READERS)
    try:
        yield process
    finally:
        process.close()
