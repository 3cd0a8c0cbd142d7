"""The model that an answer names, and what it may cost: the animal's own model where its keepers chose one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from openapi_server.circuit_breaker import CircuitBreaker
from openapi_server.models.animal import ModelSettings
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import ProviderError
from openapi_server.providers.fallback import FallbackProvider, RetryPolicy
from openapi_server.providers.options import MAX_PROMPT_TOKENS, ConfiguredProvider, ModelOptions
from tests.api.chat_endpoints import CONVO, MANY_CREDITS, SESSIONS, get_turn_id, list_event_data, open_endpoint
from tests.api.test_sessions import get_credits
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import FakeClock, FakeKnowledge, Says, make_lion

HELLO = {"message": "Hello!", "animalId": "lion_001"}
CHOSEN = FakeKnowledge(
    replace(make_lion(), model_settings=ModelSettings("lion-1", max_tokens=33)), make_lion("tiger_001", "Bulan")
)


class Speaks(ConfiguredProvider):
    """A provider whose models answer one word as soon as `go` is set, or fail."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__(ModelOptions("model-1", max_tokens=77))
        self.fails = fails
        self.has_begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        self.has_begun.set()
        await self.go.wait()
        if self.fails:
            raise ProviderError
        yield "Roar!"
        yield ReplyEnd(usage=Usage(7, 1), model=self.get_model(prompt.animal).model_id)

    async def close(self) -> None:
        pass


class Keeper(Says):
    """The fallback provider."""

    model = "keeper-1"


def make_resilient(upstream: Speaks) -> FallbackProvider:
    """Left alone after its first failure."""
    clock = FakeClock()
    return FallbackProvider(
        upstream,
        Keeper(),
        CircuitBreaker("model", clock.monotonic, failure_threshold=1, pause_s=30),
        RetryPolicy(5, 0),
        clock,
    )


async def read_metadata(zoo: RunningApp, animal_id: str = "lion_001") -> tuple[str, str, str]:
    """Which model a stream announces, which the store keeps as asked, and which has spoken."""
    answer = await (await zoo.new_client()).post(CONVO.path, json={**HELLO, "animalId": animal_id})
    first, *_, last = list_event_data(answer)
    kept = await zoo.services.store.get_turn(get_turn_id(answer))
    assert kept is not None
    assert kept.outcome is not None
    assert kept.outcome.model == last["model"]
    return first["model"], kept.model, last["model"]


async def read_whole_answer(zoo: RunningApp) -> dict[str, Any]:
    answer: dict[str, Any] = (await (await zoo.new_client()).post("/convo_turn", json=HELLO)).json()
    return answer


async def test_the_animals_own_model_is_named(open_zoo: OpensZoo) -> None:
    """By the stream's first and last event, the store and the JSON answer; the others keep the server's."""
    zoo = await open_zoo(make_resilient(Speaks()), knowledge=CHOSEN)

    assert await read_metadata(zoo) == ("lion-1", "lion-1", "lion-1")
    assert await read_metadata(zoo, "tiger_001") == ("model-1", "model-1", "model-1")
    assert (await read_whole_answer(zoo))["metadata"] == {"animalId": "lion_001", "model": "lion-1"}


async def test_who_speaks_in_its_place_is_named(open_zoo: OpensZoo) -> None:
    """At the end of the turn in which it failed, and at once while it is left alone."""
    zoo = await open_zoo(make_resilient(Speaks(fails=True)), knowledge=CHOSEN)

    assert await read_metadata(zoo) == ("lion-1", "lion-1", "keeper-1")
    assert await read_metadata(zoo) == ("keeper-1", "keeper-1", "keeper-1")
    assert (await read_whole_answer(zoo))["metadata"]["model"] == "keeper-1"


async def test_the_json_answer_names_who_spoke(open_zoo: OpensZoo) -> None:
    """Not who was asked: it comes when that is known."""
    zoo = await open_zoo(make_resilient(Speaks(fails=True)), knowledge=CHOSEN)

    assert (await read_whole_answer(zoo))["metadata"]["model"] == "keeper-1"


async def test_models_offer_the_longest_answer(open_zoo: OpensZoo) -> None:
    """As MAX_TOKENS allows it; what a model reads is no part of it."""
    zoo = await open_zoo(make_resilient(Speaks()), knowledge=CHOSEN)

    (model,) = (await (await zoo.new_client()).get("/models")).json()["models"]
    assert (model["id"], model["maxTokens"]) == ("model-1", 77)


@pytest.mark.parametrize(("animal_id", "longest"), [("lion_001", 33), ("tiger_001", 77)])
async def test_a_turn_holds_what_it_may_cost(open_zoo: OpensZoo, animal_id: str, longest: int) -> None:
    """The longest answer of this animal's model, and what it reads before; then it pays for what it used."""
    upstream = Speaks()
    upstream.go.clear()
    chat = await open_endpoint(
        await open_zoo(make_resilient(upstream), knowledge=CHOSEN, default_animal=animal_id), SESSIONS
    )

    stream = asyncio.create_task(chat.post_message())
    await upstream.has_begun.wait()
    held = MANY_CREDITS - await get_credits(chat.client)
    upstream.go.set()
    await stream

    assert held == longest + MAX_PROMPT_TOKENS
    assert await get_credits(chat.client) == MANY_CREDITS - 8


async def test_sessions_are_answered_while_the_model_is_left_alone(open_zoo: OpensZoo) -> None:
    """Whether they name it or not: it is still the one that is offered."""
    chat = await open_endpoint(await open_zoo(make_resilient(Speaks(fails=True)), knowledge=CHOSEN), SESSIONS)
    for _ in range(2):
        assert (await chat.post_message()).status_code == 200

    named = await chat.client.post(chat.path, json={"message": "Hello!", "modelId": "model-1"})
    assert named.status_code == 200
