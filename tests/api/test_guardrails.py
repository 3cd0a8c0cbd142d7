"""Checking a text against the rules, and masking before anything is stored."""

from __future__ import annotations

import httpx
import pytest

from openapi_server.moderation.input_rules import InputRules
from tests.conftest import OpensClient
from tests.support.fakes import Says

ADDRESS = "My name is John Doe and I live at 12 Oak Street."
MASKED = "My name is John [surname] and I live at [address]."


async def logged_in(client: httpx.AsyncClient, name: str) -> dict[str, str]:
    answer = await client.post("/auth/login", json={"username": name, "password": f"{name}-demo"})
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}


@pytest.fixture
async def zoo(open_client: OpensClient) -> httpx.AsyncClient:
    """With the real rules."""
    return await open_client(moderator=InputRules.load())


async def test_a_keeper_sees_what_the_rules_make_of_a_message(zoo: httpx.AsyncClient) -> None:
    """What it is, what would be said in its place, and what would be masked of it."""
    keeper = await logged_in(zoo, "keeper1")

    lost = await zoo.post("/api/v1/guardrails/validate", json={"text": "I am lost"}, headers=keeper)
    plain = await zoo.post("/api/v1/guardrails/validate", json={"text": ADDRESS}, headers=keeper)

    assert (lost.json()["flagged"], lost.json()["action"]) == (True, "replace")
    assert lost.json()["safeWords"]
    assert (plain.json()["action"], plain.json()["masked"]) == ("allow", MASKED)


async def test_a_keeper_sees_what_the_rules_make_of_a_reply(zoo: httpx.AsyncClient) -> None:
    """The other rules, which hold for what an animal says."""
    keeper = await logged_in(zoo, "keeper1")
    tried = [
        await zoo.post("/api/v1/guardrails/validate", json={"text": text, "direction": "reply"}, headers=keeper)
        for text in ("You should kill yourself.", "I sleep on my hill.")
    ]

    assert [answer.json()["action"] for answer in tried] == ["replace", "allow"]


@pytest.mark.parametrize(("name", "status"), [("user1", 403), ("parent1", 403), ("admin", 200)])
async def test_only_keepers_and_those_above_try_texts(zoo: httpx.AsyncClient, name: str, status: int) -> None:
    """The rules are no secret, but nobody should learn to go round them here."""
    caller = await logged_in(zoo, name)

    answer = await zoo.post("/api/v1/guardrails/validate", json={"text": "Hello!"}, headers=caller)

    assert answer.status_code == status


async def test_what_is_personal_reaches_neither_the_store_nor_the_mind(open_client: OpensClient) -> None:
    """At every endpoint: the engine masks before anything is stored. The request can still be repeated to resume it."""
    provider = Says()
    client = await open_client(provider, moderator=InputRules.load())
    body = {"message": ADDRESS, "animalId": "lion_001"}

    stream = await client.post("/convo_turn_stream", json=body)
    first_id = next(line for line in stream.text.splitlines() if line.startswith("id: ")).removeprefix("id: ")
    again = await client.post("/convo_turn_stream", json=body, headers={"Last-Event-ID": first_id})
    session_id = (await client.get("/conversations/sessions")).json()["sessions"][0]["sessionId"]
    history = await client.get("/convo_history", params={"sessionId": session_id})

    assert [prompt.message for prompt in provider.prompts] == [MASKED]
    assert again.status_code == 200
    assert history.json()["turns"][0]["content"] == MASKED
