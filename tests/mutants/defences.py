"""Deliberate breaks of the server's defences: for each, the tests that must fail with it.

`python -m tests.mutants.defences` copies the repository, applies one break at a time, and runs its tests in the copy.
It ends with 1 when a break is not caught. It takes some minutes, and is not part of the suite;
`test_defences.py` checks that every break still applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

REPOSITORY = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns(".git", ".venv", ".data", "__pycache__", ".*_cache", ".hypothesis", "*.sqlite3*")
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Break:
    """One edit of one file of the package, and the tests that must notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, folder: Path) -> None:
        """Edit the copy of the repository in `folder`. `ValueError` when the text is not there exactly once."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has the text {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


BREAKS: tuple[Break, ...] = ()


def run_tests(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the tests of the copy, to the first failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def is_caught(result: subprocess.CompletedProcess[str]) -> bool:
    """True when a test failed. A broken import or a wrong test name (exit codes above 1) is no catch."""
    return result.returncode == 1 and "FAILED " in result.stdout


def main(names: list[str]) -> int:
    """Try the named breaks, or all. Returns the exit code."""
    chosen = [item for item in BREAKS if not names or item.name in names]
    missed = 0
    for item in chosen:
        with tempfile.TemporaryDirectory(prefix="break-") as temporary:
            folder = Path(temporary) / "copy"
            shutil.copytree(REPOSITORY, folder, ignore=IGNORED)
            item.apply(folder)
            result = run_tests(folder, item.tests)
        failed = next((line for line in result.stdout.splitlines() if line.startswith("FAILED ")), "no test failed")
        missed += not is_caught(result)
        click.echo(
            f"{'caught' if is_caught(result) else 'MISSED'}  {item.name}: {failed.removeprefix('FAILED ')[:110]}"
        )
    click.echo(f"{len(chosen) - missed} of {len(chosen)} breaks caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
