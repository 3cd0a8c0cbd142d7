"""Messages that wait for the one before them, against server processes: crashes, shutdowns, and two processes."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from tests.conftest import StartsServer
from tests.support.contract import check_stream
from tests.support.processes import ServerProcess
from tests.support.timing import wait_until

# About sixty words: at 0.5 a second the reply does not end within a test.
LONG = {"message": "Tell me a story about yourself", "animalId": "lion_001"}
FIRST, SECOND, THIRD = "How do you sleep?", "What do you eat?", "How fast can you run?"


def begin_session(server: ServerProcess) -> str:
    """A session in which one turn runs that nobody reads."""
    with httpx.Client(base_url=server.url) as visitor:
        visitor.post("/convo_turn", json=LONG, headers={"Prefer": "respond-async"})
        session_id: str = visitor.get("/conversations/sessions").json()["sessions"][0]["sessionId"]
    return session_id


def enqueue(server: ServerProcess, session_id: str, message: str) -> str:
    """A message that waits, if another turn runs, under a key of its own; the id of its turn."""
    body = {**LONG, "message": message, "sessionId": session_id, "onBusy": "enqueue"}
    headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid.uuid5(uuid.NAMESPACE_URL, message))}
    answer = httpx.post(f"{server.url}/convo_turn", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    turn_id: str = answer.json()["turnId"]
    return turn_id


def get_turn(server: ServerProcess, turn_id: str) -> dict[str, Any]:
    turn: dict[str, Any] = httpx.get(f"{server.url}/convo_turn/{turn_id}").json()
    return turn


def has_status(server: ServerProcess, turn_id: str, *statuses: str) -> Callable[[], bool]:
    return lambda: get_turn(server, turn_id)["status"] in statuses


def list_messages(server: ServerProcess, session_id: str) -> list[str]:
    """What the visitor said in the session."""
    history = httpx.get(f"{server.url}/convo_history", params={"sessionId": session_id}).json()
    return [turn["content"] for turn in history["turns"] if turn["role"] == "user"]


def test_after_a_crash_no_message_that_waited_is_lost_and_none_waits_for_ever(start_server: StartsServer) -> None:
    """`kill -9`: those that waited end like the one that ran, the session goes on, and they may be sent again."""
    server = start_server(OFFLINE_WORDS_PER_S=0.5)
    session_id = begin_session(server)
    turn_ids = [enqueue(server, session_id, message) for message in (FIRST, SECOND)]
    assert [get_turn(server, turn_id)["status"] for turn_id in turn_ids] == ["queued", "queued"]
    server.stop(signal.SIGKILL)

    again = start_server(OFFLINE_WORDS_PER_S=0)
    for turn_id in turn_ids:
        state = get_turn(again, turn_id)
        assert (state["status"], state["progress"], state["error"]["code"]) == ("failed", 0, "interrupted")
    body = {**LONG, "message": THIRD, "sessionId": session_id}
    assert httpx.post(f"{again.url}/convo_turn", json=body, timeout=30).status_code == 200
    assert list_messages(again, session_id) == [LONG["message"], FIRST, SECOND, THIRD]
    sent_again = enqueue(again, session_id, FIRST)
    assert sent_again not in turn_ids
    wait_until(has_status(again, sent_again, "succeeded"), within_s=10)
    assert enqueue(again, session_id, FIRST) == sent_again


def test_a_shutdown_tells_those_that_wait_at_once(start_server: StartsServer) -> None:
    """They need not wait for the turn that is still being answered. Their messages are kept, and may be sent again."""
    server = start_server(OFFLINE_WORDS_PER_S=0.5, DRAIN_TIMEOUT=60)
    session_id = begin_session(server)
    bodies: list[bytes] = []
    body = {**LONG, "message": FIRST, "sessionId": session_id, "onBusy": "enqueue"}
    key = {"Idempotency-Key": str(uuid.uuid4())}

    def send(server: ServerProcess) -> bytes:
        return httpx.post(f"{server.url}/convo_turn_stream", json=body, headers=key, timeout=30).content

    def wait_in_the_queue() -> None:
        bodies.append(send(server))

    waiting = threading.Thread(target=wait_in_the_queue)
    waiting.start()
    wait_until(lambda: FIRST in list_messages(server, session_id), within_s=5)
    server.process.send_signal(signal.SIGTERM)
    waiting.join(10)
    assert server.stop() == 0

    last = check_stream("/convo_turn_stream", bodies[0])[-1]
    assert (last.event, last.data["error"]["code"]) == ("error", "draining")
    assert b"\n\nretry: 1000\n: the server restarts; come back in a moment\nid: " in bodies[0]
    again = start_server()
    assert list_messages(again, session_id) == [LONG["message"], FIRST]
    assert check_stream("/convo_turn_stream", send(again))[-1].event == "complete"


def test_two_processes_have_one_queue(start_server: StartsServer) -> None:
    """A message waits for a turn of another process, and the next one for it, in order of arrival."""
    here, there = [start_server(OFFLINE_WORDS_PER_S=20) for _ in range(2)]
    session_id = begin_session(here)
    waiting = [enqueue(there, session_id, FIRST), enqueue(here, session_id, SECOND), enqueue(there, session_id, THIRD)]
    for turn_id in waiting:
        wait_until(has_status(here, turn_id, "succeeded", "failed"), within_s=40)

    assert [get_turn(here, turn_id)["status"] for turn_id in waiting] == ["succeeded"] * 3
    turns = httpx.get(f"{there.url}/convo_history", params={"sessionId": session_id}).json()["turns"]
    assert [turn["content"] for turn in turns if turn["role"] == "user"] == [LONG["message"], FIRST, SECOND, THIRD]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 4
    times = [turn["timestamp"] for turn in turns]
    assert times == sorted(times)


def test_a_process_that_dies_leaves_the_queue_of_the_other(start_server: StartsServer) -> None:
    """What waited for its turn runs when the turn is known to be over."""
    here, there = [start_server(OFFLINE_WORDS_PER_S=speed, LEASE=1) for speed in (0.5, 0)]
    session_id = begin_session(here)
    waiting = enqueue(there, session_id, FIRST)
    assert get_turn(there, waiting)["status"] == "queued"
    here.stop(signal.SIGKILL)

    wait_until(has_status(there, waiting, "succeeded"), within_s=10)
