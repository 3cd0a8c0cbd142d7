"""Node, for clients that are written in JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from tempfile import TemporaryFile
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
    command = [find_node(), str(path), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


class NodeProcess:
    """A script that answers each line of JSON with one. It gets the folder of npm packages as its argument.

    It is run by the Node of the tools: the packages are too new for that of Debian. Starts when it is first asked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[str] | None = None
        self._errors = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # until it is closed

    def ask(self, given: object, *, timeout_s: float = 120) -> Any:
        """Whatever the script writes to its standard error is shown when it gives no answer."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(timeout_s, process.kill)
        killer.start()
        try:
            process.stdin.write(f"{json.dumps(given)}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            killer.cancel()
        if not answer:
            process.wait(10)
            self._errors.seek(0)
            raise AssertionError(f"no answer within {timeout_s} s: {self._errors.read()}")
        return json.loads(answer)

    def _start(self) -> subprocess.Popen[str]:
        tools.need_tools()
        command = [str(tools.find_node()), str(self._path), str(tools.NODE_MODULES)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, encoding="utf-8")
        return self._process

    def close(self) -> None:
        """Ends with the input."""
        if self._process is not None:
            self._process.communicate(timeout=10)
        self._errors.close()
