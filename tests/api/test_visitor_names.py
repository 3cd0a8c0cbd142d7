"""A first name over HTTP: said back if it is a name, and nowhere if it is an insult."""

from __future__ import annotations

import pytest

from openapi_server.providers.offline.provider import OfflineProvider
from tests.conftest import OpensZoo

ASKED_LATER = "What is my name?"


@pytest.mark.parametrize("name", ["Handjob", "Кunt", "Фuck", "Golliwog", "Gestapo", "Drecksau", "Blyat", "Weed"])
async def test_an_insult_is_in_no_reply_title_or_summary(open_zoo: OpensZoo, name: str) -> None:
    zoo = await open_zoo(OfflineProvider(words_per_s=0, seed=1))
    caller = await zoo.new_client()
    told = {"message": f"My name is {name}.", "animalId": "lion_001"}

    answer = (await caller.post("/convo_turn", json=told)).json()
    session = {"sessionId": answer["sessionId"]}
    later = (await caller.post("/convo_turn", json={"message": ASKED_LATER, "animalId": "lion_001", **session})).json()
    summary = (await caller.post("/summarize_convo", json=session)).json()
    listed = (await caller.get("/conversations/sessions")).json()

    assert len(listed["sessions"]) == 1
    assert name.casefold() not in repr((answer, later, summary, listed)).casefold()


@pytest.mark.parametrize("name", ["Mia", "Dick", "Ishita", "Cassandra", "Семён", "Björn", "Nguyen", "Declan"])
async def test_a_name_is_said_back(open_zoo: OpensZoo, name: str) -> None:
    zoo = await open_zoo(OfflineProvider(words_per_s=0, seed=1))
    caller = await zoo.new_client()

    answer = await caller.post("/convo_turn", json={"message": f"My name is {name}.", "animalId": "lion_001"})

    assert name in answer.json()["reply"]
