"""The server process: its start, abandoned turns, disconnected clients, and its end."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.connections import find_free_port
from tests.support.contract import check_stream
from tests.support.processes import FreshServerProcess, ServerProcess, run_zoochat
from tests.support.timing import is_within, wait_until

HELLO = {"message": "Tell me about yourself", "animalId": "lion_001"}
OPENAI = {"PROVIDER": "openai", "OPENAI_MODEL": "gpt-1", "OPENAI_API_KEY": "sk-1"}


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


def test_a_job_that_a_crash_cut_short_does_not_go_back(start_server: StartsServer) -> None:
    """Polled before and after: it has failed in the step that was seen last."""
    server = start_server(OFFLINE_WORDS_PER_S=1)
    with httpx.Client(base_url=server.url) as visitor:
        job = visitor.post("/api/v1/stream?mode=job", json={"query": "What do you eat?"}).json()
        wait_until(lambda: visitor.get(job["polling_url"]).json()["latest_progress"]["progress"] == 75, within_s=20)
        cookies = dict(visitor.cookies)
    server.stop(signal.SIGKILL)

    server = start_server()
    over = httpx.get(server.url + job["polling_url"], cookies=cookies).json()

    assert (over["status"], over["problem"]["code"]) == ("failed", "interrupted")
    assert over["latest_progress"]["progress"] == 75


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


BAD_STARTS: list[tuple[dict[str, str], str]] = [
    ({"PORT": "many"}, "PORT: must be a whole number"),
    ({"HEARTBEAT": "99"}, "HEARTBEAT: must be a number"),
    ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS: '*' is not an origin"),
    ({"DEFAULT_ANIMAL": "unicorn_001"}, "DEFAULT_ANIMAL: no animal 'unicorn_001'"),
    ({"PROVIDER": "parrot"}, "PROVIDER: must be offline"),
    ({"HOST": "203.0.113.9"}, "HOST: 203.0.113.9 is not an address of this machine"),
    ({"HOST": "no such host"}, "HOST: 'no such host' is no address"),
    ({"SQLITE_PATH": "text"}, "SQLITE_PATH: text: is not a database; it was not changed"),
    ({"SQLITE_PATH": "other.db"}, "SQLITE_PATH: other.db: the file is the database of another program"),
    ({"SQLITE_PATH": "text/zoo.db"}, "SQLITE_PATH: text/zoo.db: its folder cannot be made"),
    ({"SQLITE_PATH": "/proc/zoo/zoo.db"}, "SQLITE_PATH: /proc/zoo/zoo.db: its folder cannot be made"),
    ({"SQLITE_PATH": ":memory:"}, "SQLITE_PATH: must be a file"),
    ({**OPENAI, "ALL_PROXY": "socks5://u:hush@127.0.0.1:1"}, "ALL_PROXY: a SOCKS proxy needs the package `socksio`"),
    ({**OPENAI, "HTTPS_PROXY": "gopher://hush"}, "HTTPS_PROXY: must be a URL such as"),
    ({**OPENAI, "SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE: the certificates there cannot be read"),
    ({"MODERATION_URL": "http://m.example/moderations", "all_proxy": "socks5h://hush"}, "all_proxy: a SOCKS proxy"),
]


@pytest.mark.parametrize(("settings", "sentence"), BAD_STARTS, ids=[sentence for _, sentence in BAD_STARTS])
def test_a_bad_setting_stops_the_start_and_is_named(tmp_path: Path, settings: dict[str, str], sentence: str) -> None:
    """Exit code 2 and one line that says which variable is wrong; no traceback."""
    (tmp_path / "text").write_text("no database")
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE addresses (name TEXT)")

    ended = run_zoochat("serve", folder=tmp_path, variables={"SEMANTIC": "off", "PORT": "0", **settings})

    assert ended.returncode == 2
    assert any(line.startswith(sentence) for line in ended.stderr.splitlines())
    assert "Traceback" not in ended.stderr
    assert "hush" not in ended.stderr
    assert (tmp_path / "text").read_text() == "no database"


def test_a_taken_port_is_said_plainly(tmp_path: Path) -> None:
    """It is the most common mistake at a first start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_zoochat("serve", folder=tmp_path, variables={"SEMANTIC": "off", "PORT": port})

    assert ended.returncode == 2
    assert f"PORT: address already in use: another program listens on port {port} of 127.0.0.1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_one_port_for_requests_and_metrics_is_said_plainly(tmp_path: Path) -> None:
    """Both can bind it, but only one can listen."""
    port = find_free_port()
    variables = {"SEMANTIC": "off", "PORT": port, "METRICS": "port", "METRICS_PORT": port}
    ended = run_zoochat("serve", folder=tmp_path, variables=variables)

    assert ended.returncode == 2
    assert "PORT: address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_file_of_settings_is_named_with_the_line(tmp_path: Path) -> None:
    """Also for what is only found out while the parts are opened."""
    (tmp_path / ".env.local").write_text("PORT=0\n\nDEFAULT_ANIMAL=unicorn_001\n")

    ended = run_zoochat("serve", folder=tmp_path, variables={"SEMANTIC": "off"})

    assert ended.returncode == 2
    assert ".env.local:3: DEFAULT_ANIMAL: no animal 'unicorn_001' lives in this zoo" in ended.stderr


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_ipv6_wildcard_serves_both_families(start_server: StartsServer) -> None:
    """`HOST=::`, as a container has it. Before, it was IPv6 alone."""
    server = start_server(HOST="::")

    assert httpx.get(f"http://127.0.0.1:{server.port}/health").status_code == 200
    assert httpx.get(f"http://[::1]:{server.port}/health").status_code == 200


def get_store_status(server: ServerProcess) -> str:
    status: str = httpx.get(f"{server.url}/system_health").json()["parts"]["store"]["status"]
    return status


def test_a_second_signal_ends_a_server_whose_store_is_locked(start_server: StartsServer) -> None:
    """Before, it went on trying for minutes. What it could not store is settled by the next start."""
    server = start_server(OFFLINE_WORDS_PER_S=1)
    accepted = httpx.post(f"{server.url}/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    with closing(sqlite3.connect(server.folder / "zoo.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "finishing 1 turn, once more ends at once" in server.log, within_s=10)
        assert server.stop(signal.SIGTERM) == 1

    assert "event=shutdown_forced" in server.log
    server = start_server()
    state = httpx.get(f"{server.url}{accepted.headers['location']}").json()
    assert (state["status"], state["error"]["code"]) == ("failed", "interrupted")


def test_a_database_that_is_deleted_under_the_server_is_noticed(start_server: StartsServer) -> None:
    """Before, all that was said from then on was lost at the restart, and `/ready` said that all was well."""
    server = start_server(OFFLINE_WORDS_PER_S=0)
    path = server.folder / "zoo.sqlite3"
    path.rename(server.folder / "elsewhere")

    wait_until(lambda: httpx.get(f"{server.url}/ready").status_code == 503, within_s=10)
    refused = httpx.post(f"{server.url}/convo_turn", json=HELLO, timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert refused.headers["retry-after"] == "2"
    assert get_store_status(server) == "down"
    assert httpx.get(f"{server.url}/health").status_code == 200
    (server.folder / "elsewhere").rename(path)
    wait_until(lambda: httpx.get(f"{server.url}/ready").status_code == 200, within_s=10)
    answered = httpx.post(f"{server.url}/convo_turn", json=HELLO, timeout=30)
    assert answered.status_code == 200
    server.stop()

    assert server.log.count("event=store_file_missing") == 1
    server = start_server()
    turn = httpx.get(f"{server.url}/convo_turn/{answered.json()['turnId']}")
    assert turn.json()["status"] == "succeeded"


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
