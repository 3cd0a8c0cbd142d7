"""What a start costs: modules that a serving process has no use for are not imported, and nothing is made twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.processes import END_S, FreshServerProcess, make_environment, measure_footprint

# The modules that are large, or make connections of their own.
UNUSED = {
    "anthropic",
    "boto3",
    "botocore",
    "numpy",
    "openai",
    "opentelemetry",
    "pytest",
    "redis",
    "tokenizers",
}


async def test_a_serving_process_imports_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    """From its start to the end of its first turn: neither at once nor late."""
    server = FreshServerProcess(tmp_path, VALIDATE_RESPONSES="false", PYTHONPROFILEIMPORTTIME=1)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            ready = await client.get("/ready")
            turn = await client.post("/convo_turn", json={"message": "How fast can you run?", "animalId": "lion_001"})
    finally:
        server.stop()

    assert (ready.status_code, turn.status_code) == (200, 200)
    imported = set(re.findall(r"^import time:[ 0-9|]+?([A-Za-z_][\w.]*)$", server.log, re.MULTILINE))
    assert {"connexion", "openapi_server.server", "structlog", "uvicorn"} <= imported
    assert imported & UNUSED == set()


async def test_a_start_takes_little_memory(tmp_path: Path) -> None:
    """How much depends on the libraries alone, not on how busy the machine is. Measured: 112 MB; it was 125."""
    server = FreshServerProcess(tmp_path, VALIDATE_RESPONSES="false")
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            assert (await client.get("/ready")).status_code == 200
        peak_mb = measure_footprint(server.process.pid).peak_mb
    finally:
        server.stop()

    # Some libraries import others where these are installed: beside tools for development, they take up to 12 MB more.
    assert peak_mb < 128


COUNT_SCRIPT = """
import asyncio, collections, json, sys

read = collections.Counter()
compiled = collections.Counter()
compressed = []

def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".yaml"):
        read[str(arguments[0])] += 1

sys.addaudithook(note)

import gzip, re2

compile_re2, compress = re2._Regexp.__init__, gzip.compress
re2._Regexp.__init__ = lambda made, source, options: compiled.update([source]) or compile_re2(made, source, options)
gzip.compress = lambda *given, **options: compressed.append(1) or compress(*given, **options)

from openapi_server.app import create_app
from openapi_server.composition import open_services
from openapi_server.config import load_settings

async def main():
    async with open_services(load_settings()) as services:
        create_app(services)
    print(json.dumps([len(read), max(read.values()), len(compiled), sum(compiled.values()), len(compressed)]))

asyncio.run(main())
"""


def test_a_start_makes_nothing_twice(tmp_path: Path) -> None:
    """Each file is read once, hardly a pattern is compiled twice, and nothing is compressed before it is asked for."""
    environment = make_environment(SEMANTIC="off", SQLITE_PATH=tmp_path / "zoo.sqlite3")
    process = subprocess.run(
        [sys.executable, "-c", COUNT_SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=END_S,
        check=True,
    )

    files, most_readings, patterns, compilations, compressions = json.loads(process.stdout.splitlines()[-1])

    assert files > 14
    assert most_readings == 1
    assert 200 < patterns <= 450
    assert compilations <= patterns + 5
    assert compressions == 0
