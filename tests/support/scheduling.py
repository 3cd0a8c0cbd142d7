"""In which order, and in which units, the worker processes of pytest-xdist get the tests: the slowest first.

A worker that gets a long test last keeps all others waiting. Tests that share what takes long to make, like a model's
server or the vectors of all facts, stay in one worker.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

SLOWEST_FIRST = (
    *(
        "tests/generators/test_schemathesis.py",
        "tests/api/test_authorization.py",
        "tests/generators/",
        "tests/live_model/",
        "tests/live/test_swagger_ui.py",
        "tests/contracts/",
        "tests/knowledge/",
        "tests/readers/test_recorded.py",
        "tests/live/test_contracts.py",
        "tests/live/",
        "tests/faults/",
    ),
    *(
        "tests/mutants/",
        "tests/web/",
        "tests/source_documents/",
        "tests/readers/",
        "tests/api/",
        "tests/moderation/",
    ),
)
ONE_WORKER = ("tests/live_model/", "tests/knowledge/")
ANY_WORKER = ("tests/generators/test_schemathesis.py", "tests/live/", "tests/faults/", "tests/mutants/", "tests/web/")


def get_rank(nodeid: str) -> int:
    """The place in the order; tests with the same rank stay in the order in which they were found."""
    return next((rank for rank, path in enumerate(SLOWEST_FIRST) if nodeid.startswith(path)), len(SLOWEST_FIRST))


def get_unit(nodeid: str) -> str:
    """Tests of the same unit run in the same worker.

    >>> get_unit("tests/knowledge/test_search.py::test_a"), get_unit("tests/wire/test_sse.py::test_a[x::y]")
    ('tests/knowledge/', 'tests/wire/test_sse.py')
    >>> get_unit("tests/live/test_server.py::test_a")
    'tests/live/test_server.py::test_a'
    """
    if nodeid.startswith(ANY_WORKER):
        return nodeid
    folder = next((path for path in ONE_WORKER if nodeid.startswith(path)), None)
    return folder or str(PurePosixPath(nodeid.partition("::")[0]))


class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out units, in the order of the tests, to whichever worker is free."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return get_unit(nodeid)
