"""A server process with a real model: streaming, stopping, disconnecting, and a model server that dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.live_model.conftest import ModelServer
from tests.support.contract import SseEvent, check_stream, parse_events
from tests.support.processes import ServerProcess
from tests.support.report import Report

# Two slow cores read a prompt in two seconds, or in twenty when others want them, too.
PATIENCE_S = 120
STREAM = "/convo_turn_stream"
# A small model does not come to the end of that; what it may say would take it ten seconds.
ENDLESS = {"message": "Hello Leo! Please sing the longest song that you know!"}
SPEED = {"message": "How fast can you run?"}
LION = {"animalId": "lion_001"}
MANY_TOKENS = 600
FEW_TOKENS = 32
# What it reads before it speaks for a lion is always more.
PROMPT_TOKENS = 1000
OFFLINE = "offline-keeper-1"


def start_zoo_before(
    model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory, **settings: object
) -> ServerProcess:
    return ServerProcess(
        tmp_path_factory.mktemp("server"),
        PROVIDER="openai",
        OPENAI_BASE_URL=f"{model_server.url}/v1",
        OPENAI_MODEL="smollm2",
        TEMPERATURE=0,
        MAX_TOKENS=MANY_TOKENS,
        FIRST_TOKEN_TIMEOUT=PATIENCE_S - 1,
        STREAM_IDLE_TIMEOUT=PATIENCE_S,
        TURN_DEADLINE=PATIENCE_S,
        OFFLINE_WORDS_PER_S=0,
        NO_PROXY="127.0.0.1",
        **settings,
    )


@pytest.fixture(scope="module")
def server(model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = start_zoo_before(model_server, tmp_path_factory)
    try:
        yield process
    finally:
        assert process.stop() == 0


@asynccontextmanager
async def visiting(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        asyncio.timeout(2 * PATIENCE_S),
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
async def visitor(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with visiting(server) as client:
        yield client


@pytest.fixture
async def _brief(visitor: httpx.AsyncClient) -> AsyncIterator[None]:
    """The lion has a low token limit during a test."""
    login = {"username": "keeper1", "password": "keeper1-demo"}
    token = (await visitor.post("/auth/login", json=login)).json()["accessToken"]
    keeper = {"Authorization": f"Bearer {token}", "If-Match": "*"}

    async def allow(tokens: int | None) -> None:
        changed = await visitor.patch("/animal_config?animalId=lion_001", json={"maxTokens": tokens}, headers=keeper)
        assert changed.status_code == 200, changed.text

    await allow(FEW_TOKENS)
    yield
    await allow(None)


@dataclass(slots=True)
class Reading:
    """A stream as it arrives."""

    answer: httpx.Response
    pieces: AsyncIterator[bytes]
    raw: bytes = b""

    @property
    def turn_id(self) -> str:
        return self.answer.headers["x-streaming-session-id"]

    async def to(self, mark: bytes) -> None:
        """Read until the mark; the stream must not end before."""
        while mark not in self.raw:
            self.raw += await anext(self.pieces)

    async def to_end(self) -> list[SseEvent]:
        async for piece in self.pieces:
            self.raw += piece
        return check_stream(STREAM, self.raw)


@asynccontextmanager
async def asking(client: httpx.AsyncClient, body: Mapping[str, object], path: str = STREAM) -> AsyncIterator[Reading]:
    async with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield Reading(answer, answer.aiter_raw())


async def heard(client: httpx.AsyncClient, body: Mapping[str, object]) -> list[SseEvent]:
    async with asking(client, body) as reading:
        return await reading.to_end()


def text_of(events: list[SseEvent]) -> str:
    return "".join(event.data["content"] for event in events if event.event == "chunk")


async def until(claim: Callable[[], bool]) -> None:
    """The model server says so only in its log."""
    async with asyncio.timeout(PATIENCE_S):
        while not claim():  # noqa: ASYNC110  # a log has no event to wait for
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("_brief")
async def test_tokens_reach_the_visitor_through_the_output_buffer(
    visitor: httpx.AsyncClient, model_server: ModelServer, report: Report
) -> None:
    """The chunks are the whole reply; `complete` names the model, the usage and the longest delay."""
    finished = len(model_server.finished)

    events = await heard(visitor, LION | SPEED)

    first, last = events[0], events[-1]
    assert last.event == "complete"
    assert text_of(events) == last.data["fullResponse"]
    assert last.data["chunkCount"] > 1
    assert first.data["model"] == last.data["model"] == "smollm2"
    assert last.data["finishReason"] in ("stop", "length")
    assert 0 < last.data["heldBackMs"] <= last.data["latencyMs"]
    usage = last.data["usage"]
    assert 1 < usage["completionTokens"] <= FEW_TOKENS
    await until(lambda: len(model_server.finished) > finished)
    # The last token that it said it need not read any more.
    assert usage["promptTokens"] + usage["completionTokens"] - model_server.finished[-1] in (0, 1)
    report(
        f"a turn before llama.cpp: {usage['promptTokens']} tokens read, first word after "
        f"{last.data['firstTokenMs']} ms, {last.data['chunkCount']} chunks, held back {last.data['heldBackMs']} ms"
    )


@pytest.mark.usefixtures("_brief")
async def test_turns_at_the_same_time_are_all_answered(visitor: httpx.AsyncClient) -> None:
    """Also more than the model server runs at once, each in its own session."""
    replies = await asyncio.gather(
        *(heard(visitor, LION | {"message": f"Say {word}!"}) for word in ("hello", "roar", "goodbye"))
    )

    assert [events[-1].event for events in replies] == ["complete"] * 3
    assert all(text_of(events) == events[-1].data["fullResponse"] for events in replies)
    assert {events[-1].data["model"] for events in replies} == {"smollm2"}
    assert len({events[-1].data["sessionId"] for events in replies}) == 3


async def test_a_stop_ends_the_generation(
    visitor: httpx.AsyncClient, model_server: ModelServer, report: Report
) -> None:
    """The reader keeps what came; the model server's log says that it cancelled the rest."""
    cancelled, finished = model_server.cancelled, len(model_server.finished)
    async with asking(visitor, LION | ENDLESS) as reading:
        await reading.to(b"event: chunk\n")
        stopped = await visitor.post(f"/convo_turn/{reading.turn_id}/stop")
        events = await reading.to_end()

    assert stopped.json()["finishReason"] == "stopped"
    last = events[-1]
    assert (last.event, last.data["finishReason"]) == ("complete", "stopped")
    assert last.data["fullResponse"] == text_of(events) == stopped.json()["reply"]
    await until(lambda: model_server.cancelled > cancelled and len(model_server.finished) > finished)
    assert model_server.finished[-1] < PROMPT_TOKENS + MANY_TOKENS
    report(f"stop: {stopped.json()['stoppedInMs']} ms, and llama.cpp has cancelled its task")


async def test_a_disconnect_from_the_token_stream_ends_the_generation(
    visitor: httpx.AsyncClient, model_server: ModelServer
) -> None:
    """In this contract a disconnect stops the turn."""
    cancelled, finished = model_server.cancelled, len(model_server.finished)
    async with asking(visitor, ENDLESS | {"session_id": "a-reader-that-leaves"}, "/chat") as reading:
        await reading.to(b'"type":"token"')

    parse_events(reading.raw, is_whole=False)
    await until(lambda: model_server.cancelled > cancelled and len(model_server.finished) > finished)
    assert model_server.finished[-1] < PROMPT_TOKENS + MANY_TOKENS


async def test_a_model_server_that_dies_gives_one_terminal_event(
    disposable_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing of it reaches the visitor, the stored turn has the failure, and the fallback gives the next answer."""
    server = await asyncio.to_thread(start_zoo_before, disposable_model_server, tmp_path_factory, BREAKER_FAILURES=1)
    try:
        async with visiting(server) as visitor:
            async with asking(visitor, LION | ENDLESS) as reading:
                await reading.to(b"event: chunk\n")
                disposable_model_server.process.kill()
                events = await reading.to_end()
            stored = (await visitor.get(f"/convo_turn/{reading.turn_id}")).json()
            after = await heard(visitor, LION | SPEED | {"sessionId": events[0].data["sessionId"]})
    finally:
        assert await asyncio.to_thread(server.stop) == 0

    assert [event.event for event in events if event.event in ("complete", "error")] == ["error"]
    assert events[-1].data["error"]["code"] == "provider_failed"
    port = disposable_model_server.url.rpartition(":")[2]
    assert not [word for word in (port, "127.0.0.1", "peer", "chunked", "llama") if word in reading.raw.decode()]
    assert (stored["status"], stored["reply"]) == ("failed", text_of(events))
    assert stored["error"]["code"] == "provider_failed"
    assert {after[0].data["model"], after[-1].data["model"]} == {OFFLINE}
    assert after[-1].data["finishReason"] == "stop"
