"""Requests that Schemathesis generates from the OpenAPI 3.2 document, valid and not, and what the server answers.

Each answer must be one that the document has: its status, media type, headers and body; of a stream, each event.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartsServer
from tests.generators.generation import HERE, run_tool
from tests.support.processes import ServerProcess
from tests.tools import make_python_command, need_tools

# It sends heartbeats for 30 seconds each time: that is what it is for.
SLOW = "/api/v1/stream/timeout"
MIN_CASES = 2_000


@pytest.fixture
def server(start_server: StartsServer) -> ServerProcess:
    """Quick, and without the one limit that development has."""
    need_tools()
    return start_server(OFFLINE_WORDS_PER_S=1_000, RATE_LIMIT_LOGINS=0)


def run_schemathesis(server: ServerProcess, folder: Path, *options: str) -> dict[str, Any]:
    """Its report, after every request had an answer that the document describes."""
    report = folder / "report.json"
    command = [*make_python_command("schemathesis"), "--config-file", str(HERE / "schemathesis.toml"), "run"]
    options = (*options, "--exclude-path", SLOW, "--report", "json", "--report-json-path", str(report))
    run = run_tool([*command, f"{server.url}/openapi-3.2.json", *options], folder)
    assert run.code == 0, run.output
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    assert told["complete"]
    assert told["failures"] == []
    assert told["operations"]["tested"] == told["operations"]["selected"]
    assert "Traceback" not in server.log
    return told


def log_in(server: ServerProcess, name: str) -> str:
    answer = httpx.post(f"{server.url}/auth/login", json={"username": name, "password": f"{name}-demo"})
    return str(answer.json()["accessToken"])


def test_an_administrator_gets_what_the_document_says(server: ServerProcess, tmp_path: Path) -> None:
    """Every operation, with each kind of valid and of invalid value in each place, and then at random."""
    login = f"Authorization: Bearer {log_in(server, 'admin')}"
    # A logout would end the login of all that follow.
    options = ("--exclude-path", "/auth/logout", "--header", login)

    told = run_schemathesis(server, tmp_path, *options, "--phases", "examples,coverage,fuzzing", "--max-examples", "10")

    assert told["test_cases"]["generated"] >= MIN_CASES


def test_a_visitor_gets_what_the_document_says(server: ServerProcess, tmp_path: Path) -> None:
    """Without a login, at random."""
    told = run_schemathesis(server, tmp_path, "--phases", "examples,fuzzing", "--max-examples", "10")

    assert told["test_cases"]["generated"] >= MIN_CASES / 4
