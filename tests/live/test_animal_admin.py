"""Two server processes on one database: what a keeper changes at one, the next turn at the other says."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx

from openapi_server.wire.documents import ANIMAL
from openapi_server.yaml_files import dump_yaml
from tests.conftest import StartsServer
from tests.support.processes import ServerProcess

FACTS = "/animal/lion_001/facts"
QUESTION = {"message": "How much do you weigh?", "animalId": "lion_001"}


def post_question(server: ServerProcess) -> str:
    reply: str = httpx.post(f"{server.url}/convo_turn", json=QUESTION, timeout=30).json()["reply"]
    return reply


def open_keeper(server: ServerProcess) -> httpx.Client:
    login = {"username": "keeper1", "password": "keeper1-demo"}
    token = httpx.post(f"{server.url}/auth/login", json=login, timeout=30).json()["accessToken"]
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def test_an_edited_fact_is_in_the_next_turn_of_every_process(start_server: StartsServer) -> None:
    """Login, read, edit with the version that was read: nothing else, no restart and no waiting."""
    here, there = start_server(OFFLINE_WORDS_PER_S=0), start_server(OFFLINE_WORDS_PER_S=0)
    assert "212 kilograms" not in post_question(there)
    with open_keeper(here) as client:
        read = client.get(FACTS)
        [fact] = [each for each in read.json()["facts"] if each["topic"] == "weight"][:1]
        edited = {**fact, "say": "On Monday my keepers weighed me: 212 kilograms!"}

        answer = client.post(FACTS, json=edited, headers={"If-Match": read.headers["etag"]})

    assert answer.status_code == 200, answer.text
    assert "212 kilograms" in post_question(there)
    assert "212 kilograms" in post_question(here)


def test_an_imported_file_is_in_the_next_turn_and_a_start_changes_nothing(start_server: StartsServer) -> None:
    """`zoochat animals import` while a server runs; what was imported outlives it."""
    server = start_server(OFFLINE_WORDS_PER_S=0)
    with open_keeper(server) as client:
        document = ANIMAL.decode(client.get("/animal/lion_001/document").json())
    for fact in document["facts"]:
        if fact["topic"] == "weight":
            fact["say"] = "On Monday my keepers weighed me: 212 kilograms!"
    file = server.folder / "lion_001.yaml"
    file.write_text(dump_yaml(document), encoding="utf-8")

    imported = run_zoochat(server, "animals", "import", str(file))

    assert imported.startswith("lion_001: changed: facts.")
    assert "212 kilograms" in post_question(server)
    assert server.stop() == 0
    assert "212 kilograms" in post_question(start_server(OFFLINE_WORDS_PER_S=0))


def run_zoochat(server: ServerProcess, *words: str) -> str:
    """Run the command on the server's database; its output."""
    environment = {**os.environ, "SQLITE_PATH": str(server.folder / "zoo.sqlite3")}
    command = [sys.executable, "-m", "openapi_server", *words]
    return subprocess.run(
        command, cwd=server.folder, env=environment, capture_output=True, text=True, check=True, timeout=30
    ).stdout
