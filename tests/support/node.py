"""Node, for clients that are written in JavaScript."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def find_node() -> str:
    """The path of Node 18 or later; without it the test is skipped, or fails where services are required."""
    found = shutil.which("node")
    if found is None and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail("Node is required here, and is not installed")
    if found is None:
        pytest.skip("Node is not installed")
    return found


def run_script(path: Path, *arguments: str, timeout_s: float = 60) -> Any:
    """The JSON value that the script prints. Whatever it writes to its standard error is shown when it fails."""
    command = [find_node(), str(path), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
