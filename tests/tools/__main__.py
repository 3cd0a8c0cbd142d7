"""`python -m tests.tools`: installs the tools of the lock files below `.tools`; a second call does nothing.

`--lock` writes `package-lock.json` anew from `package.json`.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import subprocess
import venv
from pathlib import Path

from tests.tools import FOLDER, INSTALLED, NODE_MODULES, PYTHON, SOURCES, compute_fingerprint, find_node, is_installed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools", description="Install the tools that some tests need."
    )
    parser.add_argument("--lock", action="store_true", help="write package-lock.json anew, then install")
    if parser.parse_args().lock:
        (SOURCES / "package-lock.json").unlink(missing_ok=True)
        _run_npm("install", "--package-lock-only", folder=SOURCES)
    _install()


def _install() -> None:
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        # Two at once (`make test` in two terminals) would write over each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            INSTALLED.unlink(missing_ok=True)
            _install_python_packages()
            _install_node_packages()
            INSTALLED.write_text(compute_fingerprint(), encoding="utf-8")
    print(f"The tools are in {FOLDER}")  # noqa: T201


def _install_python_packages() -> None:
    venv.create(FOLDER / "python", clear=True, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(SOURCES / "requirements.lock")], check=True)


def _install_node_packages() -> None:
    shutil.rmtree(NODE_MODULES, ignore_errors=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(SOURCES / name, FOLDER / name)
    _run_npm("ci", "--no-progress", folder=FOLDER)


def _run_npm(*arguments: str, folder: Path) -> None:
    # The wheel's own `npm` does not run: its links became copies that look for their files in the wrong folder.
    npm = find_node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    subprocess.run([str(find_node()), str(npm), *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    main()
