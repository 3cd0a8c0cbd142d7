"""The server process: its start, abandoned turns, disconnected clients, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.contract import check_stream
from tests.support.processes import FreshServerProcess, ServerProcess
from tests.support.timing import is_within, wait_until

HELLO = {"message": "Tell me about yourself", "animalId": "lion_001"}


def count_readers(server: ServerProcess) -> int:
    count: int = httpx.get(f"{server.url}/system_health").json()["turns"]["readers"]
    return count


def test_a_client_that_leaves_is_noticed_within_a_second(start_server: StartsServer) -> None:
    """The reader is gone at once; the turn goes on and its reply is kept."""
    server = start_server(OFFLINE_WORDS_PER_S=8)
    with (
        httpx.Client() as client,
        client.stream("POST", f"{server.url}/convo_turn_stream", json=HELLO) as answer,
    ):
        turn_id = answer.headers["x-streaming-session-id"]
        pieces = answer.iter_bytes()
        next(pieces)
        assert count_readers(server) == 1
    wait_until(lambda: count_readers(server) == 0, within_s=1)

    state = httpx.get(f"{server.url}/convo_turn/{turn_id}").json()
    assert state["status"] == "running"
    wait_until(lambda: httpx.get(f"{server.url}/convo_turn/{turn_id}").json()["status"] == "succeeded", within_s=30)


def test_a_turn_that_a_crash_cut_short_is_failed_not_running(start_server: StartsServer) -> None:
    """After `kill -9` and a new start the visitor's message is there, and the turn says that it was interrupted."""
    server = start_server(OFFLINE_WORDS_PER_S=1)
    accepted = httpx.post(f"{server.url}/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    server.stop(signal.SIGKILL)

    server = start_server()
    state = httpx.get(f"{server.url}{accepted.headers['location']}").json()

    assert (state["status"], state["error"]["code"]) == ("failed", "interrupted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_orderly_end(start_server: StartsServer, number: signal.Signals) -> None:
    """Exit code 0, and no write-ahead log is left beside the database."""
    server = start_server(FreshServerProcess)
    httpx.post(f"{server.url}/convo_turn", json=HELLO, timeout=30)

    assert server.stop(number) == 0
    assert sorted(path.name for path in server.folder.glob("zoo.sqlite3*")) == ["zoo.sqlite3"]


def test_what_was_said_survives_a_restart(start_server: StartsServer) -> None:
    """History and turns are stored on disk."""
    server = start_server(OFFLINE_WORDS_PER_S=0)
    answer = httpx.post(f"{server.url}/convo_turn", json=HELLO, timeout=30).json()
    server.stop()

    server = start_server()
    history = httpx.get(f"{server.url}/convo_history", params={"sessionId": answer["sessionId"]}).json()
    state = httpx.get(f"{server.url}/convo_turn/{answer['turnId']}").json()

    assert [message["content"] for message in history["turns"]] == [HELLO["message"], answer["reply"]]
    assert (state["status"], state["reply"]) == ("succeeded", answer["reply"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"PORT": "many"}, "PORT"),
        ({"HEARTBEAT": "99"}, "HEARTBEAT"),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS"),
        ({"DEFAULT_ANIMAL": "unicorn_001"}, "DEFAULT_ANIMAL"),
        ({"PROVIDER": "parrot"}, "PROVIDER"),
    ],
)
def test_a_bad_setting_stops_the_start_and_is_named(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    """Exit code 2 and one line that says which variable is wrong; no traceback."""
    environment = {"PATH": os.environ["PATH"], **settings}

    ended = subprocess.run(
        [sys.executable, "-m", "openapi_server"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 2
    assert f"{named}:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_said_plainly(start_server: StartsServer, tmp_path: Path) -> None:
    """It is the most common mistake at a first start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = subprocess.run(
            [sys.executable, "-m", "openapi_server"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PORT": str(taken.getsockname()[1])},
            capture_output=True,
            text=True,
            timeout=30,
        )

    assert ended.returncode != 0
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_nothing_of_a_message_is_logged(start_server: StartsServer) -> None:
    """Logs tell what happened, never what was said, and no id that could be used."""
    server = start_server(LOG_LEVEL="DEBUG", OFFLINE_WORDS_PER_S=0)
    answer = httpx.post(
        f"{server.url}/convo_turn_stream", json={**HELLO, "message": "My name is Xanthippe"}, timeout=30
    )
    complete = check_stream("/convo_turn_stream", answer.content)[-1].data
    httpx.get(f"{server.url}/convo_history", params={"sessionId": complete["sessionId"]})
    server.stop()

    assert "turn_ended" in server.log
    for secret in ("Xanthippe", complete["fullResponse"], complete["turnId"], complete["sessionId"]):
        assert secret not in server.log


def test_the_server_is_ready_soon(start_server: StartsServer) -> None:
    """From the command to `/ready`; the figure is in the trials, here only that it is not slow."""
    began_s = time.monotonic()
    server = start_server(FreshServerProcess)

    assert httpx.get(f"{server.url}/ready").json() == {"status": "ready"}
    assert is_within(time.monotonic() - began_s, 10)
