"""Erasing a person while the server runs: nothing of them is left in its files, its log or its answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.conftest import StartsServer
from tests.live.test_resumable_turns import BackgroundReader
from tests.support.contract import parse_events
from tests.support.processes import ServerProcess

SECRET = "Xaverl of Quakenbrueck"
COOKIE = "3tq0mE2p2h4wH0d0Wb3x9A"


def run_zoochat(server: ServerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the server's database."""
    environment = {"PATH": os.environ["PATH"], "SQLITE_PATH": str(server.folder / "zoo.sqlite3")}
    command = [sys.executable, "-m", "openapi_server", *words]
    return subprocess.run(command, cwd=server.folder, env=environment, capture_output=True, text=True, timeout=30)


def read_files(folder: Path) -> bytes:
    """Every byte of the database, of its log, and of whatever else the server wrote."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


def post_turn(server: ServerProcess, message: str, cookie: str = COOKIE) -> str:
    """Post a message; the turn's id."""
    body = {"message": message, "animalId": "lion_001"}
    answer = httpx.post(f"{server.url}/convo_turn", json=body, headers={"Cookie": f"session_id={cookie}"}, timeout=30)
    turn_id: str = answer.json()["turnId"]
    return turn_id


def test_nothing_is_left_of_somebody_who_is_erased(start_server: StartsServer) -> None:
    """Also while the server goes on talking with somebody else, whose talk is kept."""
    server = start_server(OFFLINE_WORDS_PER_S=0, LOG_LEVEL="DEBUG")
    turn_ids = [post_turn(server, f"{SECRET}, question {number}. How fast can you run?") for number in range(20)]
    kept = post_turn(server, "What do you eat?", cookie="another" * 4)
    assert SECRET.encode() in read_files(server.folder)

    erased = run_zoochat(server, "privacy", "erase", COOKIE, "--yes")

    assert erased.stdout.startswith("Erased 20 sessions, 20 turns, 40 messages"), erased.stderr
    left = read_files(server.folder)
    for secret in (SECRET, COOKIE, *turn_ids):
        assert secret.encode() not in left
    assert [httpx.get(f"{server.url}/convo_turn/{turn_id}").status_code for turn_id in turn_ids] == [404] * 20
    assert httpx.get(f"{server.url}/convo_turn/{kept}").status_code == 200


def test_a_reader_of_somebody_who_is_erased_hears_how_it_ended(start_server: StartsServer) -> None:
    """The server that speaks is told nothing; it finds out when it renews the turn's lease."""
    server = start_server(OFFLINE_WORDS_PER_S=2, LEASE=1)
    reading = BackgroundReader(server)
    (session_id,) = list_sessions(server)

    assert run_zoochat(server, "privacy", "erase", "--session", session_id, "--yes").returncode == 0

    last = parse_events(reading.read_to_end())[-1]
    assert (last.event, last.data["error"]["code"]) == ("error", "session_deleted")


def list_sessions(server: ServerProcess) -> list[str]:
    """The session ids in the database."""
    query = "import sqlite3, sys; print(*(row[0] for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])))"
    command = [sys.executable, "-c", query, str(server.folder / "zoo.sqlite3"), "SELECT session_id FROM sessions"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
