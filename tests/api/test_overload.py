"""More messages than may wait (`MAX_PENDING`): 503 at once, in every contract, and everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from openapi_server.http.concurrency_limit import RETRY_AFTER_S
from openapi_server.spec import load_spec
from tests.api.chat_endpoints import CHAT_ENDPOINTS, CONVO, ChatEndpoint, get_turn_id, open_endpoint
from tests.api.test_charged_ends import wait_until
from tests.api.test_metrics import read
from tests.conftest import OpensZoo, RunningApp
from tests.support.contract import parse_events

HELLO = {"message": "Hello!", "animalId": "lion_001"}
MESSAGES = [
    (method.upper(), path)
    for path, operations in load_spec()["paths"].items()
    for method, operation in operations.items()
    if operation.get("x-rate-limit") == "turns"
]


def assert_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["code"] == "overloaded"
    assert int(answer.headers["retry-after"]) in RETRY_AFTER_S


@asynccontextmanager
async def hold_message(zoo: RunningApp) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A message whose turn is stored and does not run yet, as while others are begun; it runs in the end."""
    client, scheduler = await zoo.new_client(), zoo.services.engine.scheduler
    with scheduler.pause():
        posting = asyncio.create_task(client.post("/convo_turn_stream", json=HELLO))
        await wait_until(lambda: bool(scheduler))
        yield posting
    await posting


@pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)
async def test_a_message_beyond_those_that_wait_is_refused(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """In every contract alike, with when to come back. Then it is answered, and those that waited are, too."""
    zoo = await open_zoo(max_pending=1)
    chat = await open_endpoint(zoo, endpoint)
    async with hold_message(zoo) as first:
        refused = await chat.post_message(Origin="http://localhost:3000")
        assert_refused(refused)
        assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"

    assert parse_events((await first).content)[-1].data["type"] == "complete"
    assert chat.read_text(await chat.post_message())


@pytest.mark.parametrize(("method", "path"), MESSAGES, ids=[" ".join(each) for each in MESSAGES])
async def test_every_operation_that_starts_a_turn_refuses_before_it_looks_at_the_message(
    open_zoo: OpensZoo, method: str, path: str
) -> None:
    """Neither body nor login is looked at: what is no message at all is refused in the same way."""
    zoo = await open_zoo(max_pending=1)
    async with hold_message(zoo):
        client = await zoo.new_client()
        assert_refused(await client.request(method, path.replace("{sessionId}", "sess_1"), content=b"{"))


async def test_what_starts_no_turn_is_never_refused(open_zoo: OpensZoo) -> None:
    """Health, lists, polls, resumes in both forms, and the stop of a turn that waits itself."""
    zoo = await open_zoo(max_pending=1)
    chat = await open_endpoint(zoo, CONVO)
    earlier = get_turn_id(await chat.post_message())
    client = chat.client
    async with hold_message(zoo) as waiting:
        for path in ("/health", "/ready", "/system_health", "/animal_list", f"/convo_turn/{earlier}"):
            assert (await client.get(path)).status_code == 200
        resumed = await chat.post_message(Last_Event_ID=f"{earlier}-1")
        assert resumed.status_code == 200
        question = {**HELLO, "lastEventId": f"{earlier}-1"}
        resumed = await client.get("/convo_turn_stream", params=question, headers={"Accept": "text/event-stream"})
        assert resumed.status_code == 200
        (turn_id,) = zoo.services.engine._running
        stopped = await (await zoo.new_client()).post(f"/convo_turn/{turn_id}/stop")
        assert stopped.json()["status"] == "stopped"
        # Its place is free.
        assert (zoo.services.pending_turns.count, (await waiting).status_code) == (0, 200)


async def test_a_message_that_resumes_nothing_is_refused_too(open_zoo: OpensZoo) -> None:
    """An answer in JSON cannot be resumed: with `Last-Event-ID` it would be a turn like any other."""
    zoo = await open_zoo(max_pending=1)
    client = await zoo.new_client()
    headers = {"Last-Event-ID": "turn_1-1"}
    async with hold_message(zoo):
        assert_refused(await client.post("/convo_turn", json=HELLO, headers=headers))

    assert (await client.post("/convo_turn", json=HELLO, headers=headers)).status_code == 200
    assert zoo.services.pending_turns.count == 0


async def test_the_metrics_tell_what_waits_and_what_was_refused(open_zoo: OpensZoo) -> None:
    """The queue of messages, and a count for the alert."""
    zoo = await open_zoo(max_pending=1)
    async with hold_message(zoo):
        assert read(zoo, "queue_length", queue="messages") == 1
        client = await zoo.new_client()
        for _ in range(3):
            assert_refused(await client.post("/convo_turn_stream", json=HELLO))

    assert read(zoo, "queue_length", queue="messages") == 0
    assert read(zoo, "messages_refused_total") == 3


async def test_a_refused_message_does_not_count_for_the_rate_limit(open_zoo: OpensZoo) -> None:
    """Who comes back as it was told has as many messages left as before."""
    zoo = await open_zoo(max_pending=1, rate_limit_turns=3)
    async with hold_message(zoo):
        client = await zoo.new_client("192.0.2.9")
        for _ in range(5):
            assert_refused(await client.post("/convo_turn_stream", json=HELLO))

    assert (await client.post("/convo_turn_stream", json=HELLO)).headers["ratelimit"].startswith('"turns";r=2;')
