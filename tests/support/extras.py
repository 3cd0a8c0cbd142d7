"""Optional packages that some tests need."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from openapi_server.composition import SEMANTIC_EXTRA


def need_semantic_extra() -> None:
    """Without its packages the test is skipped, or fails where services are required."""
    missing = [name for name in SEMANTIC_EXTRA if find_spec(name) is None]
    if missing and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"The extra `semantic` is required here, and is not installed: no {', '.join(missing)}")
    if missing:
        pytest.skip(f"The extra `semantic` is not installed: no {', '.join(missing)}")
