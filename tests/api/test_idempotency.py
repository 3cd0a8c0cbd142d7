"""`Idempotency-Key` at every operation that creates something: one effect, one answer, for the caller alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.turn import IdempotencyKey
from openapi_server.spec import load_spec
from tests.api.chat_endpoints import log_in_client
from tests.api.test_animal_admin import SENT_MOLE
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import FakeClock

KEY = {"Idempotency-Key": "once"}
# The POSTs that take no key, and why a repetition does no harm.
CREATES_NOTHING = {
    "/convo_turn/{turnId}/stop": "stopping twice changes nothing",
    "/summarize_convo": "reads",
    "/api/v1/stream/error": "a simulation: repeated, it is one more that fails",
    "/api/v1/stream/timeout": "a simulation, of which nothing is stored",
    "/chat/sessions/{sessionId}/update-stream": "confirming twice changes nothing",
    "/credits/check": "reads",
    "/auth/login": "its answer has secrets, which are not stored; an unused login expires by itself",
    "/auth/refresh": "a refresh token is a key of its own: repeated at once, it gets the same successor",
    "/auth/logout": "logging out twice changes nothing",
    "/api/v1/guardrails/validate": "reads",
    "/animal/{animalId}/draft/compare": "reads",
}
MOLE = "/animal/mole_001"


@dataclass(frozen=True)
class Creation:
    """An operation that creates something, who may, two bodies for it, and where its effects are seen."""

    path: str
    username: str
    body: dict[str, Any]
    other_body: dict[str, Any]
    seen_at: str

    def __str__(self) -> str:
        return self.path


CREATIONS = [
    Creation(
        "/credits/allocate",
        "admin",
        {"userId": "user1", "credits": 50, "notes": "open day"},
        {"userId": "user1", "credits": 51, "notes": "open day"},
        "/credits/balance?userId=user1",
    ),
    Creation("/chat/sessions", "user1", {"title": "My lion"}, {"title": "Your lion"}, "/chat/sessions"),
]


def takes_key(operation: dict[str, Any]) -> bool:
    parameters = [str(parameter.get("$ref", "")) for parameter in operation.get("parameters", [])]
    return "#/components/parameters/IdempotencyKey" in parameters


async def test_every_post_takes_a_key_or_creates_nothing() -> None:
    """A new operation has to be put on one side or the other; and its answers say what a reused key gets."""
    posts = {path: operations["post"] for path, operations in load_spec()["paths"].items() if "post" in operations}

    assert {path for path, operation in posts.items() if not takes_key(operation)} == set(CREATES_NOTHING)
    for path, operation in posts.items():
        if takes_key(operation):
            assert {"409", "422"} <= set(operation["responses"]), path


@pytest.mark.parametrize("creation", CREATIONS, ids=str)
async def test_a_repeated_request_has_one_effect_and_one_answer(open_zoo: OpensZoo, creation: Creation) -> None:
    """After a restart, too; with another body it is 422, and another key is another request."""
    zoo = await open_zoo()
    client = await log_in_client(zoo, creation.username)

    first = await client.post(creation.path, json=creation.body, headers=KEY)
    seen = (await client.get(creation.seen_at)).text
    again = await client.post(creation.path, json=creation.body, headers=KEY)
    restarted = await log_in_client(await open_zoo(), creation.username)
    later = await restarted.post(creation.path, json=creation.body, headers=KEY)
    changed = await client.post(creation.path, json=creation.other_body, headers=KEY)

    assert first.status_code == 201
    for answer in (again, later):
        assert (answer.status_code, answer.text) == (first.status_code, first.text)
        for name in ("content-type", "location", "etag", "cache-control"):
            assert answer.headers.get(name) == first.headers.get(name)
    assert (changed.status_code, changed.json()["code"]) == (422, "key_reused")
    assert (await client.get(creation.seen_at)).text == seen
    other = await client.post(creation.path, json=creation.body, headers={"Idempotency-Key": "twice"})
    assert other.text != first.text
    assert (await client.get(creation.seen_at)).text != seen


@pytest.mark.parametrize("path", ["/animal", f"{MOLE}/facts", f"{MOLE}/draft", f"{MOLE}/draft/promote"])
async def test_keepers_may_repeat_their_changes(open_zoo: OpensZoo, path: str) -> None:
    """With the `If-Match` that was right the first time. Without the key, a repetition is refused."""
    keeper = await log_in_client(await open_zoo(), "keeper1")
    body: dict[str, Any] | None = SENT_MOLE
    headers = dict(KEY)
    if path != "/animal":
        created = await keeper.post("/animal", json=SENT_MOLE, headers=KEY)
        headers["If-Match"] = created.headers["etag"]
    if path.endswith("facts"):
        body = {**SENT_MOLE["facts"][0], "id": "tail"}
    if path.endswith("promote"):
        draft = {**SENT_MOLE, "name": "Nora"}
        assert (await keeper.post(f"{MOLE}/draft", json=draft, headers=headers)).status_code == 201
        body = None

    first = await keeper.post(path, json=body, headers=headers)
    history = (await keeper.get(f"{MOLE}/history")).json()
    again = await keeper.post(path, json=body, headers=headers)
    without = await keeper.post(path, json=body, headers={**headers, "Idempotency-Key": "another"})

    assert first.is_success, first.text
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert again.headers.get("etag") == first.headers.get("etag")
    assert (await keeper.get(f"{MOLE}/history")).json() == history
    assert without.status_code in (404, 409, 412) or path.endswith("draft")


async def test_a_key_counts_for_one_operation_and_one_account(open_zoo: OpensZoo) -> None:
    """Two keepers with one key make two changes; so does one keeper at two addresses."""
    zoo = await open_zoo()
    users = [await log_in_client(zoo, name) for name in ("user1", "parent1")]

    created = [(await user.post("/chat/sessions", json={}, headers=KEY)).json()["sessionId"] for user in users]
    turn = await users[0].post(f"/chat/sessions/{created[0]}/stream", json={"message": "Hello!"}, headers=KEY)

    assert created[0] != created[1]
    assert turn.status_code == 402


async def give(zoo: RunningApp, key: str) -> httpx.Response:
    admin = await log_in_client(zoo, "admin")
    given = {"userId": "user1", "credits": 50}
    return await admin.post("/credits/allocate", json=given, headers={"Idempotency-Key": key})


async def get_credits(zoo: RunningApp) -> int:
    user = await log_in_client(zoo, "user1")
    return int((await user.get("/credits/balance")).json()["credits"])


async def test_fifty_allocations_at_once_with_one_key_are_one(open_zoo: OpensZoo) -> None:
    """In two processes; the others wait for the first one's answer."""
    zoos = [await open_zoo(), await open_zoo()]
    admins = [await log_in_client(zoo, "admin") for zoo in zoos]
    given = {"userId": "user1", "credits": 50}

    answers = await asyncio.gather(
        *(admins[number % 2].post("/credits/allocate", json=given, headers=KEY) for number in range(50))
    )

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert await get_credits(zoos[0]) == 50


async def test_a_key_is_kept_for_a_day(open_zoo: OpensZoo) -> None:
    """As long as that of a turn; then it is a new one."""
    clock = FakeClock()
    zoo = await open_zoo(clock=clock)
    first = await give(zoo, "once")

    clock.advance(86_399)
    assert (await give(zoo, "once")).text == first.text
    clock.advance(1)
    assert (await give(zoo, "once")).text != first.text
    assert await get_credits(zoo) == 100


async def test_a_failed_request_may_be_sent_again(open_zoo: OpensZoo) -> None:
    """Nothing was created, so nothing is remembered."""
    zoo = await open_zoo()
    admin = await log_in_client(zoo, "admin")
    missing = {"userId": "user9", "credits": 5}

    answers = [await admin.post("/credits/allocate", json=missing, headers=KEY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert (await give(zoo, "once")).status_code == 201


async def test_a_crash_after_the_allocation_doubles_nothing(
    open_zoo: OpensZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key stands in the ledger, too: whoever repeats the request a minute later gets that entry."""
    clock = FakeClock()
    zoo = await open_zoo(clock=clock)

    async def fail(requests: object, key: IdempotencyKey, answer: StoredAnswer | None = None) -> None:
        raise StoreUnavailable

    requests = type(zoo.services.requests)
    with monkeypatch.context() as patch:
        patch.setattr(requests, "finish", fail)
        assert (await give(zoo, "once")).status_code == 503
    clock.advance(61)

    assert (await give(zoo, "once")).status_code == 201
    assert await get_credits(zoo) == 50


async def test_a_request_that_still_runs_is_waited_for_and_then_refused(
    open_zoo: OpensZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409, and the client may try again."""
    monkeypatch.setattr("openapi_server.http.idempotency.WAIT_S", 0.1)
    zoo = await open_zoo()

    async def never(requests: object, key: IdempotencyKey, answer: StoredAnswer) -> None:
        """The answer is not there yet."""

    with monkeypatch.context() as patch:
        patch.setattr(type(zoo.services.requests), "finish", never)
        await give(zoo, "once")
    answer = await give(zoo, "once")

    assert (answer.status_code, answer.json()["code"]) == (409, "request_running")
    assert answer.headers["retry-after"] == "1"


async def test_what_is_erased_is_not_repeated(open_zoo: OpensZoo) -> None:
    """Stored answers have titles and notes in them: they go with the session and with the user."""
    zoo = await open_zoo()
    user = await log_in_client(zoo, "user1")
    first = await user.post("/chat/sessions", json={"title": "Secret"}, headers=KEY)
    await user.delete(f"/chat/sessions/{first.json()['sessionId']}")
    given = await give(zoo, "notes")
    await user.delete("/privacy")

    assert (await user.post("/chat/sessions", json={"title": "Secret"}, headers=KEY)).text != first.text
    assert (await give(zoo, "notes")).text != given.text
