"""The lock files pin every tool, and name no registry."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.processes import ROOT
from tests.tools import SOURCES

PACKAGES = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))
NODE_LOCK = json.loads((SOURCES / "package-lock.json").read_text(encoding="utf-8"))
PYTHON_LOCKS = (
    "requirements.lock",
    "benchmarks/requirements.lock",
    "deploy/requirements.lock",
    "tests/tools/requirements.lock",
)


def test_node_packages_have_exact_versions() -> None:
    """And the lock file was written for them."""
    assert [
        version for version in PACKAGES["dependencies"].values() if not re.fullmatch(r"\d+\.\d+\.\d+", version)
    ] == []
    assert NODE_LOCK["packages"][""]["dependencies"] == PACKAGES["dependencies"]


def test_each_node_package_has_a_hash_and_no_address() -> None:
    """npm asks the registry that the machine has."""
    locked = {name: package for name, package in NODE_LOCK["packages"].items() if name}
    assert [name for name, package in locked.items() if "integrity" not in package] == []
    assert [name for name, package in locked.items() if "resolved" in package] == []


@pytest.mark.parametrize("name", PYTHON_LOCKS)
def test_each_python_package_has_an_exact_version_and_a_hash(name: str) -> None:
    """pip refuses the whole file otherwise, but says so only where it is installed."""
    lock = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==[\w.]+ (; [^\n]+ )?\\\n    --hash=sha256:", entry)
    ] == []
    assert "://" not in lock
