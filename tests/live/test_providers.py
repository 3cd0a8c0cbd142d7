"""A server process with a model provider, whose model server is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.contract import check_stream
from tests.support.model_dialects import PRIVATE_ERROR, OpenAIDialect
from tests.support.processes import ServerProcess
from tests.support.scripted_model import FaultPoint, ModelAnswer, ModelFault, ScriptedModel

KEY = "sk-a-very-secret-key"
QUESTION = "How fast are quaggas?"
REPLY = ("Flabbergasted ", "zebras ", "gallop.")


@asynccontextmanager
async def run_server_with(
    upstream: ScriptedModel, start_server: StartsServer, **settings: object
) -> AsyncIterator[tuple[ServerProcess, httpx.AsyncClient]]:
    provider = {"PROVIDER": "openai", "OPENAI_MODEL": "scripted-1", "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    where = {"OPENAI_BASE_URL": f"{upstream.url}/v1", "OFFLINE_WORDS_PER_S": 0}
    server = await asyncio.to_thread(lambda: start_server(**provider, **where, **settings))
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        yield server, client


async def post_question(client: httpx.AsyncClient) -> httpx.Response:
    answer = await client.post("/convo_turn", json={"message": QUESTION, "animalId": "lion_001"})
    answer.raise_for_status()
    return answer


async def test_the_model_speaks_and_nothing_of_it_is_logged(start_server: StartsServer) -> None:
    """Not even at DEBUG, where the libraries would log prompts and keys."""
    async with (
        ScriptedModel(OpenAIDialect(), [ModelAnswer(REPLY)]) as upstream,
        run_server_with(upstream, start_server, LOG_LEVEL="DEBUG") as (server, client),
    ):
        answer = await client.post("/convo_turn_stream", json={"message": QUESTION, "animalId": "lion_001"})
        check_stream("/convo_turn_stream", answer.content)
        assert "".join(REPLY) in answer.text
        assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
        log = server.wait_for_log("turn_ended")

    for secret in ("quagga", "zebra", "Savanna Hill", KEY):
        assert secret not in log


WRONG: dict[str, Sequence[ModelAnswer]] = {
    "500": [ModelAnswer(fault=ModelFault.STATUS, status=500)],
    "401": [ModelAnswer(fault=ModelFault.STATUS, status=401)],
    "hang": [ModelAnswer(fault=ModelFault.HANG)],
    "reset": [ModelAnswer(fault=ModelFault.RESET)],
}


@pytest.mark.parametrize("answers", WRONG.values(), ids=list(WRONG))
async def test_a_visitor_is_answered_without_it(start_server: StartsServer, answers: Sequence[ModelAnswer]) -> None:
    """Also when the model fails repeatedly, and then without delay."""
    async with (
        ScriptedModel(OpenAIDialect(), answers) as upstream,
        run_server_with(upstream, start_server, FIRST_TOKEN_TIMEOUT=0.5, BREAKER_FAILURES=1) as (server, client),
    ):
        assert (await post_question(client)).json()["reply"]
        assert (await post_question(client)).json()["reply"]
        # Attempts do not begin any more once the first has failed.
        assert len(upstream.requests) == 1
        assert PRIVATE_ERROR not in server.log


async def test_a_reply_that_breaks_off_is_told_as_a_problem(start_server: StartsServer) -> None:
    """Exactly one terminal event, without the server's own texts."""
    broken = ModelAnswer(("Zebras gallop! ", *REPLY), fault=ModelFault.ERROR, at=FaultPoint.MIDDLE)
    async with (
        ScriptedModel(OpenAIDialect(), [broken]) as upstream,
        run_server_with(upstream, start_server) as (server, client),
    ):
        answer = await client.post("/convo_turn_stream", json={"message": QUESTION, "animalId": "lion_001"})

    check_stream("/convo_turn_stream", answer.content)
    assert answer.text.count("event: error\n") == 1
    assert "provider_failed" in answer.text
    assert PRIVATE_ERROR not in answer.text + server.log
