"""Clients of four contracts against a server process: they abort, confirm early, restart, and spend at once."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx

from tests.conftest import StartsServer
from tests.support.contract import parse_events
from tests.support.processes import ServerProcess
from tests.support.report import Report
from tests.support.timing import wait_until

STORY = {"message": "Tell me a story about yourself", "session_id": "550e8400-e29b-41d4-a716-446655440000"}
KIOSK = {"X-Device-ID": "kiosk-7"}
ABORTS = 100
CONFIRMATIONS = 1000
SPENDERS, SPENDS_EACH = 20, 10


@contextmanager
def log_in(server: ServerProcess, username: str = "user1") -> Iterator[httpx.Client]:
    """A client of the server with a demo user's token, and connections that are kept."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        login = {"username": username, "password": f"{username}-demo"}
        token = client.post("/auth/login", json=login).json()["accessToken"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def create_session(client: httpx.Client) -> str:
    """Create a session; its path."""
    path: str = client.post("/chat/sessions", json={}).headers["location"]
    return path


def get_credits(client: httpx.Client) -> int:
    left: int = client.get("/credits/balance").json()["credits"]
    return left


def allocate_credits(server: ServerProcess, amount: int) -> None:
    """Give user1 that many credits."""
    with log_in(server, "admin") as admin:
        given = admin.post("/credits/allocate", json={"userId": "user1", "credits": amount})
        assert given.status_code == 201


def read_ledger(server: ServerProcess) -> list[tuple[str, int]]:
    """The credit entries of user1, in the order in which they were written."""
    with closing(sqlite3.connect(server.folder / "zoo.sqlite3")) as db:
        query = "SELECT kind, credits FROM credit_ledger WHERE username = 'user1' ORDER BY entry_id"
        return db.execute(query).fetchall()


def count_active_turns(server: ServerProcess) -> int:
    count: int = httpx.get(f"{server.url}/health").json()["active_jobs"]
    return count


def read_one_token(client: httpx.Client, body: dict[str, str]) -> str:
    """Post to `/chat`, read the first token, and disconnect; the turn's id."""
    with client.stream("POST", "/chat", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        raw = b""
        for piece in answer.iter_raw():
            raw += piece
            if b'"type":"token"' in raw:
                break
        assert b'"type":"done"' not in raw
        turn_id: str = answer.headers["x-streaming-session-id"]
        return turn_id


def test_aborting_stops_the_turn_and_the_next_message_is_accepted_at_once(
    start_server: StartsServer, report: Report
) -> None:
    """A hundred times in a row on one session, without a wait; each turn is stopped, and logged as left."""
    server = start_server(OFFLINE_WORDS_PER_S=20)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        began_s = time.monotonic()
        turn_ids = [read_one_token(client, STORY) for _ in range(ABORTS)]
        took_s = time.monotonic() - began_s
        stopped_s = wait_until(lambda: count_active_turns(server) == 0, within_s=1)
        states = {client.get(f"/convo_turn/{turn_id}").json()["status"] for turn_id in turn_ids}

    assert states == {"stopped"}
    server.wait_for_log("Stream cancelled by client", ABORTS)
    report(
        f"/chat: {ABORTS} aborts, each followed by a message at once: 0 refused, {took_s:.1f} s; "
        f"the last turn had stopped after {stopped_s * 1000:.0f} ms"
    )


def test_what_was_said_until_the_abort_is_known_to_the_next_turn(start_server: StartsServer) -> None:
    """The context is kept: the animal knows the name that it was told in the turn that was cut short."""
    server = start_server(OFFLINE_WORDS_PER_S=10)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        read_one_token(client, {**STORY, "message": "My name is Xanthippe. Tell me a story about yourself"})
        body = {**STORY, "message": "What is my name?", "streaming": False}
        answer = client.post("/chat", json=body).json()

    assert "Xanthippe" in answer["response"]


def confirm_at_once(client: httpx.Client, path: str) -> tuple[int, int]:
    """Begin a stream and confirm it as soon as its header is there: the two statuses."""
    with client.stream("POST", f"{path}/stream", json={"message": "Tell me a story about yourself"}) as stream:
        streaming_id = stream.headers.get("x-streaming-session-id", "none")
        body = {"completeResponse": "", "streamingSessionId": streaming_id, "tokensUsed": 0}
        return stream.status_code, client.post(f"{path}/update-stream", json=body).status_code


def test_a_confirmation_right_after_the_header_is_never_too_early(start_server: StartsServer, report: Report) -> None:
    """A thousand times in a row on one session: never a mismatch, never a session that still streams."""
    server = start_server(OFFLINE_WORDS_PER_S=200, VALIDATE_RESPONSES="false")
    allocate_credits(server, 10_000_000)
    with log_in(server) as user:
        path = create_session(user)
        began_s = time.monotonic()
        statuses = [confirm_at_once(user, path) for _ in range(CONFIRMATIONS)]
        took_s = time.monotonic() - began_s

    races = sum(pair != (200, 200) for pair in statuses)
    report(f"confirmed right after the header: {races} races in {CONFIRMATIONS:,}, {took_s:.1f} s")
    assert races == 0


def test_a_device_keeps_its_animal_and_its_memory_over_a_restart(start_server: StartsServer) -> None:
    """Another process continues the same session, and takes the same session token."""
    server = start_server(OFFLINE_WORDS_PER_S=0, SESSION_BINDING="caller")
    told = {"content": "My name is Xanthippe. May I talk to the tiger?"}
    first = httpx.post(f"{server.url}/chat/", json=told, headers=KIOSK)
    headers = {**KIOSK, "X-Session-Token": first.headers["x-session-token"]}
    before = httpx.get(f"{server.url}/chat/session", headers=headers).json()
    assert server.stop() == 0

    server = start_server(OFFLINE_WORDS_PER_S=0, SESSION_BINDING="caller")
    after = httpx.get(f"{server.url}/chat/session", headers=headers).json()
    answer = httpx.post(f"{server.url}/chat/", json={"content": "What is my name?"}, headers=headers).json()
    alone = httpx.post(f"{server.url}/chat/", json={"content": "What is my name?"}, headers=KIOSK).json()

    assert after == before
    assert after["active_animal"] == "tiger_001"
    assert "Xanthippe" in answer["content"]
    assert "Xanthippe" not in alone["content"]


def test_a_crash_between_holding_and_settling_costs_nothing(start_server: StartsServer) -> None:
    """After `kill -9` and a new start the credits are back, once, and the books say how."""
    server = start_server(OFFLINE_WORDS_PER_S=2)
    allocate_credits(server, 5000)
    with log_in(server) as user:
        path = create_session(user)
        with user.stream("POST", f"{path}/stream", json={"message": "Hello!"}) as stream:
            assert stream.status_code == 200
            held = get_credits(user)
            server.stop(signal.SIGKILL)

    server = start_server()
    with log_in(server) as user:
        wait_until(lambda: get_credits(user) == 5000, within_s=5)

    assert held < 5000
    assert read_ledger(server) == [("allocate", 5000), ("reserve", held - 5000), ("refund", 5000 - held)]


def spend(server: ServerProcess, outcomes: list[tuple[int, int]]) -> None:
    """One of many spenders, with a session of its own: the statuses, and the tokens that each reply took."""
    with log_in(server) as user:
        path = create_session(user)
        for _ in range(SPENDS_EACH):
            answer = user.post(f"{path}/stream", json={"message": "How fast can you run?"})
            done: dict[str, Any] = parse_events(answer.content)[-1].data if answer.status_code == 200 else {}
            outcomes.append((answer.status_code, done.get("tokensUsed", 0)))


def test_two_hundred_racing_spends_never_take_more_than_there_is(start_server: StartsServer, report: Report) -> None:
    """Over HTTP, in two processes on one database: at no time below zero, and the balance is the books' sum."""
    servers = [start_server(OFFLINE_WORDS_PER_S=0, VALIDATE_RESPONSES="false") for _ in range(2)]
    given = 3000
    allocate_credits(servers[0], given)
    outcomes: list[tuple[int, int]] = []
    spenders = [threading.Thread(target=spend, args=(servers[n % 2], outcomes)) for n in range(SPENDERS)]
    for spender in spenders:
        spender.start()
    for spender in spenders:
        spender.join(60)
    with log_in(servers[1]) as user:
        left = get_credits(user)

    entries = read_ledger(servers[0])
    running_sums = [sum(credits for _, credits in entries[: place + 1]) for place in range(len(entries))]
    statuses = [status for status, _ in outcomes]
    assert len(statuses) == SPENDERS * SPENDS_EACH
    assert set(statuses) == {200, 402}
    assert [kind for kind, _ in entries].count("reserve") == statuses.count(200)
    assert min(running_sums) >= 0
    assert left == running_sums[-1] >= given - sum(tokens for _, tokens in outcomes)
    report(
        f"{len(statuses)} racing spends of {given:,} credits in two processes: {statuses.count(200)} replies, "
        f"{statuses.count(402)} refused, lowest balance {min(running_sums)}, left {left} = the books' sum"
    )
