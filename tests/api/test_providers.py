"""The model that answers name, and what turns may cost: the animal's own model if its keepers chose one."""

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
from openapi_server.providers.options import MAX_PROMPT_TOKENS, ConfiguredProvider, ModelOptions
from openapi_server.providers.retry_and_fallback import FallbackProvider, RetryPolicy
from tests.api.chat_endpoints import CONVO, MANY_CREDITS, SESSIONS, get_turn_id, list_event_data, open_endpoint
from tests.api.test_sessions import get_credits
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import FakeClock, FakeKnowledge, Says, make_lion

HELLO = {"message": "Hello!", "animalId": "lion_001"}
CHOSEN_MODEL_ZOO = FakeKnowledge(
    replace(make_lion(), model_settings=ModelSettings("lion-1", max_tokens=33)), make_lion("tiger_001", "Bulan")
)


class OneWordModel(ConfiguredProvider):
    """A model provider that says one word once `go` is set, or fails."""

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


class NeverFails(Says):
    """The fallback, which never fails."""

    model = "keeper-1"


def make_fallback_provider(upstream: OneWordModel) -> FallbackProvider:
    """The breaker opens after the first failure."""
    clock = FakeClock()
    return FallbackProvider(
        upstream,
        NeverFails(),
        CircuitBreaker("model", clock.monotonic, failure_threshold=1, pause_s=30),
        RetryPolicy(5, 0),
        clock,
    )


async def read_metadata(zoo: RunningApp, animal_id: str = "lion_001") -> tuple[str, str, str]:
    """The model that a stream announces, the one stored at the start, and the one that answered."""
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
    """In the stream's first and last event, the store and the JSON answer; other animals have the server's model."""
    zoo = await open_zoo(make_fallback_provider(OneWordModel()), knowledge=CHOSEN_MODEL_ZOO)

    assert await read_metadata(zoo) == ("lion-1", "lion-1", "lion-1")
    assert await read_metadata(zoo, "tiger_001") == ("model-1", "model-1", "model-1")
    assert (await read_whole_answer(zoo))["metadata"] == {"animalId": "lion_001", "model": "lion-1"}


async def test_the_fallback_is_named(open_zoo: OpensZoo) -> None:
    """At the end of the turn in which the model failed, and from the start while the breaker is open."""
    zoo = await open_zoo(make_fallback_provider(OneWordModel(fails=True)), knowledge=CHOSEN_MODEL_ZOO)

    assert await read_metadata(zoo) == ("lion-1", "lion-1", "keeper-1")
    assert await read_metadata(zoo) == ("keeper-1", "keeper-1", "keeper-1")
    assert (await read_whole_answer(zoo))["metadata"]["model"] == "keeper-1"


async def test_the_json_answer_names_the_model_that_answered(open_zoo: OpensZoo) -> None:
    """Not the one that was tried first."""
    zoo = await open_zoo(make_fallback_provider(OneWordModel(fails=True)), knowledge=CHOSEN_MODEL_ZOO)

    assert (await read_whole_answer(zoo))["metadata"]["model"] == "keeper-1"


async def test_models_offer_the_longest_answer(open_zoo: OpensZoo) -> None:
    """`MAX_TOKENS`; prompt tokens are not part of it."""
    zoo = await open_zoo(make_fallback_provider(OneWordModel()), knowledge=CHOSEN_MODEL_ZOO)

    (model,) = (await (await zoo.new_client()).get("/models")).json()["models"]
    assert (model["id"], model["maxTokens"]) == ("model-1", 77)


@pytest.mark.parametrize(
    ("animal_id", "prompt_price", "reserved", "paid"),
    [("lion_001", 0, 33, 1), ("tiger_001", 0, 77, 1), ("lion_001", 2, 33 + 2 * MAX_PROMPT_TOKENS, 15)],
)
async def test_a_turn_reserves_its_maximum_cost(
    open_zoo: OpensZoo, animal_id: str, prompt_price: int, reserved: int, paid: int
) -> None:
    """The animal's longest reply, and the longest prompt where prompts have a price; in the end it is what was used."""
    upstream = OneWordModel()
    upstream.go.clear()
    provider, prices = make_fallback_provider(upstream), {"credits_per_prompt_token": prompt_price}
    app = await open_zoo(provider, knowledge=CHOSEN_MODEL_ZOO, default_animal=animal_id, **prices)
    chat = await open_endpoint(app, SESSIONS)

    stream = asyncio.create_task(chat.post_message())
    await upstream.has_begun.wait()
    held = MANY_CREDITS - await get_credits(chat.client)
    upstream.go.set()
    await stream

    assert held == reserved
    assert await get_credits(chat.client) == MANY_CREDITS - paid


async def test_sessions_are_answered_while_the_breaker_is_open(open_zoo: OpensZoo) -> None:
    """Whether or not they name the model, which is still in the list."""
    app = await open_zoo(make_fallback_provider(OneWordModel(fails=True)), knowledge=CHOSEN_MODEL_ZOO)
    chat = await open_endpoint(app, SESSIONS)
    for _ in range(2):
        assert (await chat.post_message()).status_code == 200

    named = await chat.client.post(chat.path, json={"message": "Hello!", "modelId": "model-1"})
    assert named.status_code == 200
