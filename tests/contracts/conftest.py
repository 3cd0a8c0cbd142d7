"""What the suites of the stores share: every backend, and the time that they go by."""

from __future__ import annotations

import pytest

from tests.support.fakes import FakeClock
from tests.support.stores import BACKENDS, OpensStores


@pytest.fixture(params=list(BACKENDS.values()), ids=list(BACKENDS))
def opens(request: pytest.FixtureRequest) -> OpensStores:
    """How to open each implementation; two that are opened over one folder are two processes of one zoo."""
    opener: OpensStores = request.param
    return opener


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
