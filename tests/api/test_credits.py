"""Credits over HTTP: who may give them, and who may see what is left."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.test_accounts import bearer, log_in
from tests.conftest import OpensClient
from tests.support.fakes import FakeClock


async def allocate(client: httpx.AsyncClient, username: str = "admin", **body: Any) -> httpx.Response:
    headers = bearer(await log_in(client, username))
    return await client.post("/credits/allocate", json={"userId": "user1", "credits": 5000, **body}, headers=headers)


async def get_balance(client: httpx.AsyncClient, username: str, **params: str) -> httpx.Response:
    return await client.get("/credits/balance", params=params, headers=bearer(await log_in(client, username)))


async def test_an_administrator_gives_credits(open_client: OpensClient) -> None:
    """201 with what was given; and the user has them, until they are lost."""
    client = await open_client(clock=FakeClock())

    answer = await allocate(client, expiryDays=30, notes="open day 🦁")

    assert answer.status_code == 201
    assert answer.json() == {
        "allocationId": "1",
        "userId": "user1",
        "credits": 5000,
        "createdAt": "2026-11-21T10:30:40.000Z",
        "expiresAt": "2026-12-21T10:30:40.000Z",
        "notes": "open day 🦁",
    }
    told = (await get_balance(client, "user1")).json()
    assert told == {"userId": "user1", "credits": 5000, "totalCredits": 5000, "expiresAt": "2026-12-21T10:30:40.000Z"}


async def test_credits_without_an_expiry_stay(client: httpx.AsyncClient) -> None:
    """The balance has no expiry time."""
    assert (await allocate(client)).json()["expiresAt"] is None
    told = (await get_balance(client, "user1")).json()
    assert told == {"userId": "user1", "credits": 5000, "totalCredits": 5000, "expiresAt": None}


@pytest.mark.parametrize("username", ["user1", "parent1", "keeper1"])
async def test_nobody_else_gives_credits(client: httpx.AsyncClient, username: str) -> None:
    """Other roles cannot, neither to themselves nor to a child."""
    answer = await allocate(client, username)

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await get_balance(client, "user1")).json()["credits"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"credits": 0},
        {"credits": -5},
        {"credits": 1_000_000_001},
        {"credits": 10**30},
        {"credits": 1.5},
        {"credits": "5000"},
        {"credits": True},
        {"expiryDays": 0},
        {"expiryDays": 3651},
        {"notes": "x" * 501},
        {"userId": "../user1"},
        {"userId": "user1\n"},
    ],
    ids=str,
)
async def test_an_allocation_of_the_wrong_form_is_400(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """The error names the field, and the balance is unchanged."""
    answer = await allocate(client, **body)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == next(iter(body))
    assert (await get_balance(client, "user1")).json()["credits"] == 0


async def test_nobody_cannot_be_given_credits(client: httpx.AsyncClient) -> None:
    """404 with a code of its own for an unknown user."""
    answer = await allocate(client, userId="nobody")

    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")


@pytest.mark.parametrize(
    ("username", "user_id", "status"),
    [
        ("user1", "user1", 200),
        ("parent1", "user1", 200),
        ("admin", "user1", 200),
        ("admin", "keeper1", 200),
        ("user1", "parent1", 404),
        ("user1", "admin", 404),
        ("parent1", "keeper1", 404),
        ("keeper1", "user1", 404),
        ("user1", "nobody", 404),
        ("admin", "nobody", 404),
    ],
)
async def test_a_balance_is_seen_by_whom_it_concerns(
    client: httpx.AsyncClient, username: str, user_id: str, status: int
) -> None:
    """One's own, a child's, anybody's for an administrator; somebody else's looks like nobody's."""
    answer = await get_balance(client, username, userId=user_id)

    assert answer.status_code == status
    if status == 404:
        assert answer.json()["code"] == "user_not_found"
        assert user_id not in answer.text


async def test_a_balance_needs_a_login(client: httpx.AsyncClient) -> None:
    """Visitors without an account have no credits."""
    assert (await client.get("/credits/balance")).status_code == 401


@pytest.mark.parametrize(
    ("credits", "is_enough"), [(0, True), (1, True), (4999, True), (5000, True), (5001, False), (1_000_000_000, False)]
)
async def test_a_user_asks_whether_the_balance_is_enough(
    client: httpx.AsyncClient, credits: int, is_enough: bool
) -> None:
    """Up to the last credit; and asking spends nothing."""
    await allocate(client)
    headers = bearer(await log_in(client, "user1"))

    answer = await client.post("/credits/check", json={"credits": credits}, headers=headers)

    assert (answer.status_code, answer.json()) == (200, {"sufficient": is_enough, "totalCredits": 5000})
    assert (await get_balance(client, "user1")).json()["credits"] == 5000


@pytest.mark.parametrize("body", [{}, {"credits": -1}, {"credits": 1.5}, {"credits": "5"}, {"credits": None}], ids=str)
async def test_a_check_of_the_wrong_form_names_the_field(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """400, and nothing is compared."""
    answer = await client.post("/credits/check", json=body, headers=bearer(await log_in(client, "user1")))

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["credits"]


async def test_a_check_needs_a_login(client: httpx.AsyncClient) -> None:
    """There is no balance without an account."""
    assert (await client.post("/credits/check", json={"credits": 1})).status_code == 401


async def spend(client: httpx.AsyncClient) -> int:
    """A turn of user1's; the tokens that it was charged for."""
    headers = bearer(await log_in(client, "user1"))
    session_id = (await client.post("/chat/sessions", json={}, headers=headers)).json()["sessionId"]
    answer = await client.post(f"/chat/sessions/{session_id}/stream", json={"message": "Hello!"}, headers=headers)
    done = answer.text.rpartition("data: ")[2]
    return int(json.loads(done)["tokensUsed"])


async def get_stats(client: httpx.AsyncClient, username: str, **params: str) -> httpx.Response:
    return await client.get("/usage/stats", params=params, headers=bearer(await log_in(client, username)))


async def test_usage_is_told_by_the_day(open_client: OpensClient) -> None:
    """The last thirty days, as the balance has them; a day without turns is left out."""
    clock = FakeClock()
    client = await open_client(clock=clock, credits_per_token=2)
    await allocate(client)
    tokens = [await spend(client), await spend(client)]
    clock.advance(86_400)
    tokens.append(await spend(client))

    told = (await get_stats(client, "user1")).json()

    first = {"date": "2026-11-21", "turns": 2, "tokens": sum(tokens[:2]), "credits": 2 * sum(tokens[:2])}
    second = {"date": "2026-11-22", "turns": 1, "tokens": tokens[2], "credits": 2 * tokens[2]}
    total = {"turns": 3, "tokens": sum(tokens), "credits": 2 * sum(tokens)}
    assert told == {
        "userId": "user1",
        "from": "2026-10-24",
        "to": "2026-11-22",
        "days": [first, second],
        "total": total,
    }
    assert (await get_balance(client, "user1")).json()["credits"] == 5000 - 2 * sum(tokens)
    later = (await get_stats(client, "user1", **{"from": "2026-11-22"})).json()
    assert (later["days"], later["from"]) == ([second], "2026-11-22")
    assert (await get_stats(client, "user1", to="2026-11-20")).json()["days"] == []


@pytest.mark.parametrize(("username", "status"), [("user1", 200), ("parent1", 200), ("admin", 200), ("keeper1", 404)])
async def test_usage_is_seen_by_whom_it_concerns(client: httpx.AsyncClient, username: str, status: int) -> None:
    """The user, the parent and administrators; for others there is no such user."""
    assert (await get_stats(client, username, userId="user1")).status_code == status
    assert (await get_stats(client, username, userId="nobody")).status_code == 404
    assert (await client.get("/usage/stats")).status_code == 401


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"to": "2026-11-21T00:00:00Z"}, "to"),
        ({"from": "2026-11-22", "to": "2026-11-21"}, "from"),
        ({"from": "2025-11-20", "to": "2026-11-21"}, "from"),
        ({"from": "0000-01-01"}, "from"),
        ({"userId": "../x"}, "userId"),
    ],
    ids=str,
)
async def test_days_that_make_no_sense_are_named(client: httpx.AsyncClient, params: dict[str, str], field: str) -> None:
    """400. A year at once is enough."""
    answer = await get_stats(client, "user1", **params)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
