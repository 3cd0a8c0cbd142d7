"""Node, for clients that are written in JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests import tools


def find_node() -> str:
    """The machine's own Node (18 or later), else that of the tools."""
    found = shutil.which("node")
    if found is None:
        tools.need_tools()
        found = str(tools.find_node())
    return found


def run_script(path: Path, *arguments: str, timeout_s: float = 60) -> Any:
    """The JSON value that the script prints. Whatever it writes to its standard error is shown when it fails."""
    return _run(find_node(), path, arguments, "", timeout_s)


def run_script_with_packages(path: Path, given: object, *, timeout_s: float = 120) -> Any:
    """The JSON value that the script prints. It reads `given` as JSON, and gets the folder of npm packages as argument.

    It is run by the Node of the tools: the packages are too new for that of Debian.
    """
    tools.need_tools()
    return _run(str(tools.find_node()), path, (str(tools.NODE_MODULES),), json.dumps(given), timeout_s)


def _run(node: str, path: Path, arguments: tuple[str, ...], given: str, timeout_s: float) -> Any:
    command = [node, str(path), *arguments]
    ran = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
