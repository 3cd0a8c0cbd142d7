"""Resumable turns against a server process: disconnecting, resuming, stopping, draining and crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.contract import SseEvent, check_stream, parse_events
from tests.support.processes import ScriptedServer, ServerProcess
from tests.support.scripted_server import Script
from tests.support.timing import is_within, wait_until

LONG = {"message": "Tell me a story about yourself", "animalId": "lion_001"}


def read_two_pieces(server: ServerProcess, body: dict[str, str]) -> tuple[str, str, int]:
    """Read the first pieces of a turn and leave: the turn's id, the session's, and the last number seen."""
    with (
        httpx.Client(timeout=30) as client,
        client.stream("POST", f"{server.url}/convo_turn_stream", json=body) as answer,
    ):
        raw = b""
        for piece in answer.iter_raw():
            raw += piece
            if raw.count(b"event: chunk") >= 2:
                break
    events = parse_events(raw, is_whole=False)
    return events[0].data["turnId"], events[0].data["sessionId"], events[-1].seq


class BackgroundReader:
    """A reader in a thread of its own, that has heard the first piece of its turn."""

    def __init__(self, server: ServerProcess) -> None:
        self._url = f"{server.url}/convo_turn_stream"
        self._raw: list[bytes] = []
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert self._has_begun.wait(10)

    def _read(self) -> None:
        with httpx.stream("POST", self._url, json=LONG, timeout=30) as answer:
            for piece in answer.iter_raw():
                self._raw.append(piece)
                self._has_begun.set()

    def read_to_end(self) -> bytes:
        self._thread.join(30)
        return b"".join(self._raw)


def resume(server: ServerProcess, turn_id: str, seq: int) -> list[SseEvent]:
    answer = httpx.get(
        f"{server.url}/convo_turn/{turn_id}/stream", headers={"Last-Event-ID": f"{turn_id}-{seq}"}, timeout=30
    )
    return check_stream("/convo_turn/{turnId}/stream", answer.content, method="get", is_resumed=True)


def get_turn(server: ServerProcess, turn_id: str) -> dict[str, object]:
    state: dict[str, object] = httpx.get(f"{server.url}/convo_turn/{turn_id}").json()
    return state


def test_a_visitor_who_was_cut_off_hears_the_rest(start_server: StartsServer) -> None:
    """Every event arrives exactly once over the two connections."""
    server = start_server(OFFLINE_WORDS_PER_S=20)
    turn_id, _, seen = read_two_pieces(server, LONG)

    rest = resume(server, turn_id, seen)

    assert [event.seq for event in rest if event.id] == list(range(seen + 1, seen + 1 + len(rest)))
    assert rest[-1].event == "complete"
    assert get_turn(server, turn_id)["reply"] == rest[-1].data["fullResponse"]


def test_a_turn_that_nobody_comes_back_to_is_stopped_after_the_grace(start_server: StartsServer) -> None:
    """What was said is kept, and the log says why it ended."""
    server = start_server(OFFLINE_WORDS_PER_S=2, ORPHAN_GRACE=0.3)
    turn_id, _, _ = read_two_pieces(server, LONG)

    # Polling the turn itself would be reading it.
    wait_until(lambda: httpx.get(f"{server.url}/health").json()["active_jobs"] == 0, within_s=5)

    assert get_turn(server, turn_id)["status"] == "stopped"
    server.wait_for_log("Stream cancelled by client")


def test_on_disconnect_cancel_stops_at_once(start_server: StartsServer) -> None:
    """For clients that stop a turn by disconnecting."""
    server = start_server(OFFLINE_WORDS_PER_S=2)
    turn_id, _, _ = read_two_pieces(server, {**LONG, "onDisconnect": "cancel"})

    wait_until(lambda: get_turn(server, turn_id)["status"] == "stopped", within_s=1)


def test_a_client_that_aborts_a_json_request_is_noticed_too(tmp_path: Path) -> None:
    """A client that waits for a JSON answer counts as a reader."""
    server = ScriptedServer(tmp_path)
    try:
        silent = {**LONG, "message": Script(hang_after=1).message, "onDisconnect": "cancel"}
        with httpx.Client(timeout=0.5) as client, pytest.raises(httpx.ReadTimeout):
            client.post(f"{server.url}/convo_turn", json=silent)

        wait_until(lambda: httpx.get(f"{server.url}/health").json()["active_jobs"] == 0, within_s=2)
    finally:
        server.stop()


def test_a_signal_lets_running_turns_finish(start_server: StartsServer) -> None:
    """Not ready at once, nothing new is taken, the reader hears the end of its turn, exit code 0."""
    server = start_server(OFFLINE_WORDS_PER_S=12, DRAIN_TIMEOUT=20)
    reading = BackgroundReader(server)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{server.url}/ready").status_code == 503, within_s=2)
    refused = httpx.post(f"{server.url}/convo_turn", json=LONG)
    raw = reading.read_to_end()

    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) > 0
    assert check_stream("/convo_turn_stream", raw)[-1].event == "complete"
    assert server.stop() == 0


def test_turns_that_do_not_finish_in_time_are_told_and_closed_whole(start_server: StartsServer) -> None:
    """Come back: a shorter retry, a comment, and the turn's end as interrupted; within the grace and a second."""
    server = start_server(OFFLINE_WORDS_PER_S=0.5, DRAIN_TIMEOUT=0.5)
    reading = BackgroundReader(server)
    began_s = time.monotonic()
    assert server.stop() == 0
    took_s = time.monotonic() - began_s
    text = reading.read_to_end()

    assert b"\n\nretry: 1000\n: the server restarts; come back in a moment\nid: " in text
    last = check_stream("/convo_turn_stream", text)[-1]
    assert (last.event, last.data["error"]["code"]) == ("error", "interrupted")
    assert is_within(took_s, 0.5 + 1 + 1)  # the last second is the interpreter's own end


def test_a_second_signal_ends_at_once(start_server: StartsServer) -> None:
    """The second signal skips draining."""
    server = start_server(OFFLINE_WORDS_PER_S=0.5, DRAIN_TIMEOUT=60)
    httpx.post(f"{server.url}/convo_turn", json=LONG, headers={"Prefer": "respond-async"})
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{server.url}/ready").status_code == 503, within_s=2)

    began_s = time.monotonic()
    assert server.stop() == 0
    assert is_within(time.monotonic() - began_s, 4)


def test_one_of_many_racing_posts_wins_whichever_process_they_reach(start_server: StartsServer) -> None:
    """Two processes use one database, and the store decides."""
    servers = [start_server(OFFLINE_WORDS_PER_S=20) for _ in range(2)]
    session_id = httpx.post(f"{servers[0].url}/convo_turn", json=LONG, timeout=30).json()["sessionId"]
    codes: list[int] = []

    def post(number: int) -> None:
        body = {**LONG, "message": f"Racing question {number}", "sessionId": session_id}
        codes.append(httpx.post(f"{servers[number % 2].url}/convo_turn", json=body, timeout=30).status_code)

    racers = [threading.Thread(target=post, args=(number,)) for number in range(20)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)

    history = httpx.get(f"{servers[0].url}/convo_history", params={"sessionId": session_id}).json()
    assert sorted(codes) == [200] * codes.count(200) + [409] * codes.count(409)
    assert codes.count(200) == history["totalTurns"] - 1


def test_purging_says_how_many_sessions_were_over(start_server: StartsServer, tmp_path: Path) -> None:
    """`zoochat sessions purge`, with a server running on the same database."""
    server = start_server(OFFLINE_WORDS_PER_S=0, SESSION_TTL=1)
    for _ in range(3):
        assert httpx.post(f"{server.url}/convo_turn", json=LONG, timeout=30).status_code == 200
    wait_until(lambda: not httpx.get(f"{server.url}/conversations/sessions").json()["sessions"], within_s=5)
    time_of_last = time.monotonic()
    wait_until(lambda: time.monotonic() - time_of_last > 1.1, within_s=3)

    environment = {"PATH": os.environ["PATH"], "SQLITE_PATH": str(server.folder / "zoo.sqlite3")}
    command = [sys.executable, "-m", "openapi_server", "sessions", "purge"]
    purged, again = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30).stdout
        for _ in range(2)
    ]

    assert "Cleaned up 3 expired sessions" in purged
    assert "Cleaned up 0 expired sessions" in again
