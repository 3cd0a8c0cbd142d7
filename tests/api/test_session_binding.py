"""`SESSION_BINDING` and `X-Session-Token` over HTTP: who is given a token, what it opens, and what a session costs.

The table of everybody who may and may not is in `test_authorization.py`.
"""

from __future__ import annotations

import uuid
from collections import Counter
from itertools import pairwise
from typing import Any, cast

import httpx
import pytest

from openapi_server.protocols import Store
from tests.api.chat_endpoints import log_in_client
from tests.conftest import OpensClient, OpensZoo
from tests.support.fakes import Says

HELLO = {"message": "Hello!", "animalId": "lion_001"}
# Every way to begin a session without an account: path, query, body and headers.
BEGINNINGS: list[tuple[str, dict[str, str], dict[str, Any], dict[str, str]]] = [
    ("/convo_turn_stream", {}, HELLO, {}),
    ("/convo_turn", {}, HELLO, {}),
    ("/convo_turn", {}, HELLO, {"Prefer": "respond-async"}),
    ("/api/v1/stream", {}, {"query": "Hello!"}, {}),
    ("/api/v1/stream", {"mode": "job"}, {"query": "Hello!"}, {}),
    ("/chat", {}, {"message": "Hello!", "session_id": "default"}, {}),
    ("/chat", {}, {"message": "Hello!", "session_id": "default", "streaming": False}, {}),
    ("/chat", {}, {"message": "Hello!", "session_id": str(uuid.uuid4())}, {}),
    ("/chat/", {}, {"content": "Hello!"}, {}),
    ("/chat/", {}, {"content": "Hello!"}, {"X-Device-ID": "kiosk-7"}),
    ("/chat/stream", {}, {"content": "Hello!"}, {"X-Device-ID": "kiosk-7"}),
]


@pytest.mark.parametrize(("path", "query", "body", "headers"), BEGINNINGS)
@pytest.mark.parametrize("binding", ["id", "caller"])
async def test_the_answer_that_begins_a_session_gives_its_token(
    open_zoo: OpensZoo, binding: str, path: str, query: dict[str, str], body: dict[str, Any], headers: dict[str, str]
) -> None:
    """In every contract; a client that keeps no cookies is then known by it, and goes on in the same session."""
    provider = Says()
    zoo = await open_zoo(provider, session_binding=binding)

    first = await (await zoo.new_client("10.0.0.1")).post(path, params=query, json=body, headers=headers)
    token = {"X-Session-Token": first.headers["x-session-token"]}
    other = await zoo.new_client("10.0.0.2", **token)
    (job,) = (await other.get("/jobs")).json()["jobs"]
    (session,) = (await other.get("/conversations/sessions")).json()["sessions"]
    again = await other.post(path, params=query, json=body, headers=headers)

    assert first.is_success
    assert (await other.get(f"/jobs/{job['job_id']}")).status_code == 200
    assert (await other.get(f"/convo_turn/{job['job_id'].replace('job', 'turn')}")).status_code == 200
    history = await other.get("/convo_history", headers={"X-Session-Id": session["sessionId"]})
    if path not in ("/convo_turn", "/convo_turn_stream"):
        assert "x-session-token" not in again.headers
        assert history.json()["totalTurns"] == 2
    assert (await other.delete("/convo_history", headers={"X-Session-Id": session["sessionId"]})).status_code == 204


async def test_an_account_s_session_has_no_token(open_zoo: OpensZoo) -> None:
    """It would outlive the logout."""
    zoo = await open_zoo()
    user = await log_in_client(zoo, "user1")

    answers = [await user.post(path, params=query, json=body, headers=h) for path, query, body, h in BEGINNINGS]

    assert {answer.is_success for answer in answers} == {True}
    assert not any("x-session-token" in answer.headers for answer in answers)


@pytest.mark.parametrize(
    "token", ["", "x", ".", "." * 200, "0" * 32 + "." + "A" * 43, "9c8b7a6d5e4f3021a1b2c3d4e5f60718.", "\u00e9"]
)
async def test_a_wrong_token_counts_as_none(open_zoo: OpensZoo, token: str) -> None:
    """No answer tells it from a missing one."""
    zoo = await open_zoo(session_binding="caller")
    owner, stranger = await zoo.new_client(), await zoo.new_client()
    turn = (await owner.post("/convo_turn", json=HELLO)).json()
    headers = {b"X-Session-Token": token.encode("latin-1")}

    answers = [
        await stranger.get(f"/convo_turn/{turn['turnId']}", headers=headers),
        await stranger.get(f"/convo_turn/{turn['turnId']}"),
    ]

    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert (await stranger.post("/convo_turn", json=HELLO, headers=headers)).status_code == 200


async def test_a_token_is_bound_to_its_session(open_zoo: OpensZoo) -> None:
    """With the id of another session in it, it opens neither."""
    zoo = await open_zoo(session_binding="caller")
    client, stranger = await zoo.new_client(), await zoo.new_client()
    turns = [await client.post("/convo_turn", json=HELLO) for _ in range(2)]
    ids = [turn.json()["sessionId"].removeprefix("sess_") for turn in turns]
    forged = turns[0].headers["x-session-token"].replace(ids[0], ids[1])

    for turn in turns:
        answer = await stranger.get(f"/convo_turn/{turn.json()['turnId']}", headers={"X-Session-Token": forged})
        assert answer.status_code == 404


async def test_neither_token_nor_id_is_logged(open_client: OpensClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole ids in a query are not logged either; they can be sent in a header, which a proxy does not log."""
    client = await open_client()
    answer = await client.post("/convo_turn", json=HELLO)
    token, session_id = answer.headers["x-session-token"], answer.json()["sessionId"]
    await client.get("/convo_history", params={"sessionId": session_id}, headers={"X-Session-Token": token})

    logged = capsys.readouterr().out

    assert "request" in logged
    assert token.partition(".")[2] not in logged
    assert session_id not in logged


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_session_id_in_a_header_is_as_good_as_in_the_query(client: httpx.AsyncClient, method: str) -> None:
    """Both are allowed when they are the same; two different ones, or none, are 400."""
    mine, other = [(await client.post("/convo_turn", json=HELLO)).json()["sessionId"] for _ in range(2)]
    query, header = {"sessionId": mine}, {"X-Session-Id": mine}

    mismatch = await client.request(method, "/convo_history", params=query, headers={"X-Session-Id": other})
    missing = await client.request(method, "/convo_history")
    malformed = await client.request(method, "/convo_history", headers={"X-Session-Id": "a b"})
    both = await client.request(method, "/convo_history", params=query, headers=header)

    assert (mismatch.status_code, mismatch.json()["errors"][0]["field"]) == (400, "X-Session-Id")
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (400, "sessionId")
    assert (malformed.status_code, malformed.json()["errors"][0]["field"]) == (400, "X-Session-Id")
    assert both.is_success
    assert (await client.request(method, "/convo_history", headers=header)).status_code == (
        200 if method == "GET" else 404
    )


@pytest.mark.parametrize("binding", ["id", "caller"])
@pytest.mark.parametrize("begins", ["turn", "stream", "job"])
async def test_a_turn_and_its_job_have_one_rule(open_zoo: OpensZoo, binding: str, begins: str) -> None:
    """Whatever began it: its cookie, a stranger and another cookie get the same at every address of it."""
    zoo = await open_zoo(session_binding=binding)
    owner, stranger, other = await zoo.new_client(), await zoo.new_client(), await zoo.new_client()
    await other.post("/convo_turn", json=HELLO)
    if begins == "turn":
        await owner.post("/convo_turn", json=HELLO)
    else:
        await owner.post("/api/v1/stream", json={"query": "Hello!"}, params={"mode": begins.replace("turn", "stream")})
    job_id = (await owner.get("/jobs")).json()["jobs"][0]["job_id"]
    paths = [
        f"/jobs/{job_id}",
        f"/api/v1/jobs/{job_id}",
        f"/convo_turn/{job_id.replace('job', 'turn')}",
        f"/convo_turn/{job_id.replace('job', 'turn')}/stream",
    ]

    seen = {
        name: {(await client.get(path)).status_code for path in paths}
        for name, client in (("owner", owner), ("stranger", stranger), ("other", other))
    }

    # A job needs its cookie with either setting: its contract says so.
    rest = 200 if binding == "id" and begins != "job" else 404
    assert seen == {"owner": {200}, "stranger": {rest}, "other": {rest}}


class CountingStore:
    """A store that counts the calls of its methods."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return await method(*args, **kwargs)

        return call


@pytest.mark.parametrize("begins", ["/convo_turn", "/chat/"])
async def test_a_foreign_thing_takes_the_same_reads_as_a_missing_one(open_zoo: OpensZoo, begins: str) -> None:
    """So the time of an answer does not tell them apart either."""
    stores: list[CountingStore] = []

    def wrap(store: Store) -> Store:
        stores.append(CountingStore(store))
        return cast(Store, stores[-1])

    zoo = await open_zoo(wrap=wrap, session_binding="caller")
    owner, stranger = await zoo.new_client(), await zoo.new_client()
    body = HELLO if begins == "/convo_turn" else {"content": "Hello!"}
    assert (await owner.post(begins, json=body, headers={"X-Device-ID": "kiosk-7"})).status_code == 200
    (job,) = (await owner.get("/jobs")).json()["jobs"]
    (session,) = (await owner.get("/conversations/sessions")).json()["sessions"]
    turn_id, session_id = job["job_id"].replace("job", "turn"), session["sessionId"]
    none = uuid.uuid4().hex
    pairs = [
        ("GET", "/convo_turn/{}", turn_id, f"turn_{none}", {}),
        ("GET", "/convo_turn/{}/stream", turn_id, f"turn_{none}", {}),
        ("POST", "/convo_turn/{}/stop", turn_id, f"turn_{none}", {}),
        ("GET", "/jobs/{}", job["job_id"], f"job_{none}", {}),
        ("GET", "/conversations/sessions/{}", session_id, f"sess_{none}", {}),
        ("GET", "/convo_history?sessionId={}", session_id, f"sess_{none}", {}),
        ("DELETE", "/convo_history?sessionId={}", session_id, f"sess_{none}", {}),
        ("GET", "/chat/session?{}", "", "", {"X-Device-ID": "kiosk-7"}),
        ("GET", "/chat/stream?{}", "", "", {"X-Device-ID": "kiosk-7"}),
    ]

    for method, path, foreign, missing, headers in pairs:
        counted = []
        for thing, device in ((foreign, headers), (missing, {**headers, "X-Device-ID": "kiosk-none"})):
            stores[0].calls.clear()
            answer = await stranger.request(method, path.format(thing), headers=device)
            assert answer.status_code == 404, path
            counted.append(stores[0].calls.copy())
        assert counted[0] == counted[1], path


@pytest.mark.parametrize("stream", [True, False])
async def test_a_session_that_costs_credits_costs_them_at_every_door(open_zoo: OpensZoo, *, stream: bool) -> None:
    """Its owner pays, whoever is allowed to speak in it. What is repeated or resumed costs nothing more."""
    zoo = await open_zoo()
    user, parent, admin = [await log_in_client(zoo, name) for name in ("user1", "parent1", "admin")]
    assert (await admin.post("/credits/allocate", json={"userId": "user1", "credits": 10_000})).status_code == 201
    session_id = (await user.post("/chat/sessions", json={})).json()["sessionId"]
    said = {**HELLO, "sessionId": session_id, "stream": stream}

    async def get_credits() -> int:
        return int((await user.get("/credits/balance")).json()["credits"])

    balances = [await get_credits()]
    for path in ("/convo_turn", "/convo_turn_stream"):
        assert (await parent.post(path, json=said)).status_code == 404
    assert await get_credits() == balances[0]
    for client in (user, admin):
        for path in ("/convo_turn", "/convo_turn_stream"):
            assert (await client.post(path, json=said)).status_code == 200
            balances.append(await get_credits())
    key = {"Idempotency-Key": "once"}
    first, again = [await user.post("/convo_turn", json=said, headers=key) for _ in range(2)]
    once = await get_credits()
    turn_id = (await user.get("/jobs")).json()["jobs"][0]["job_id"].replace("job", "turn")
    resumed = await user.get(f"/convo_turn/{turn_id}/stream")

    spent = [before - after for before, after in pairwise(balances)]
    assert min(spent) > 0
    assert first.text == again.text
    assert balances[-1] - once > 0
    assert resumed.status_code == 200
    assert await get_credits() == once


@pytest.mark.parametrize("path", ["/convo_turn", "/convo_turn_stream"])
async def test_without_credits_such_a_session_says_so_in_a_problem(open_zoo: OpensZoo, path: str) -> None:
    """Other sessions of the same user cost nothing."""
    user = await log_in_client(await open_zoo(), "user1")
    session_id = (await user.post("/chat/sessions", json={})).json()["sessionId"]

    refused = await user.post(path, json={**HELLO, "sessionId": session_id})

    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
    assert (await user.post(path, json=HELLO)).status_code == 200
