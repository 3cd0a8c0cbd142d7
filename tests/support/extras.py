"""Optional packages that some tests need."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec

import pytest

from openapi_server.composition import SEMANTIC_EXTRA

BENCH_EXTRA = ("fastapi", "gevent", "gunicorn", "matplotlib", "sse_starlette")


def need_semantic_extra() -> None:
    """Without its packages the test is skipped, or fails where services are required."""
    _need_extra("semantic", SEMANTIC_EXTRA)


def need_bench_extra() -> None:
    """As `need_semantic_extra`; `make .venv/bench` installs it."""
    _need_extra("bench", BENCH_EXTRA)


def _need_extra(extra: str, modules: Iterable[str]) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"The extra `{extra}` is required here, and is not installed: no {', '.join(missing)}")
    if missing:
        pytest.skip(f"The extra `{extra}` is not installed: no {', '.join(missing)}")
