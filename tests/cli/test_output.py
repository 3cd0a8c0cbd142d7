"""Output that cannot be written ends a command with one sentence, whichever command it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from openapi_server.cli import main

COMMANDS = [["--version"], ["--help"], ["spec"], ["users", "list"], ["animals", "lint"], ["audit"], ["mock", "--help"]]
FULL = Path("/dev/full")


def run(arguments: list[str], folder: Path, stdout: int) -> tuple[int, str]:
    """The exit code, and what was written to standard error."""
    environment = {**os.environ, "SQLITE_PATH": str(folder / "zoo.sqlite3"), "PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "openapi_server", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_disk_is_told_in_a_sentence(arguments: list[str], tmp_path: Path) -> None:
    """Once, also where the interpreter would try again at its end."""
    with FULL.open("wb") as full:
        code, errors = run(arguments, tmp_path, full.fileno())

    assert (code, errors) == (1, "The output could not be written: No space left on device.\n")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_has_left_needs_no_sentence(arguments: list[str], tmp_path: Path) -> None:
    """As with `zoochat spec | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    code, errors = run(arguments, tmp_path, writer)
    os.close(writer)

    assert (code, errors) == (1, "")


def test_other_errors_are_not_taken_for_it() -> None:
    """An error with the name of a file is about that file."""

    @main.command("fails-for-a-test")
    def fail() -> None:
        raise OSError(28, "No space left on device", "zoo.db")

    try:
        with pytest.raises(OSError, match=r"zoo\.db"):
            main.main(["fails-for-a-test"], prog_name="zoochat")
    finally:
        del main.commands["fails-for-a-test"]
    assert isinstance(main, click.Group)
