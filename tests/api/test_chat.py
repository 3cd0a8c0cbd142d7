"""The chat contract over HTTP: `/chat`, whose clients name their sessions themselves."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import httpx
import pytest
from starlette.types import Message

from openapi_server.wire.timestamps import format_timestamp
from tests.api.chat_endpoints import get_last_event, list_event_data, log_in_client
from tests.conftest import OpensClient, OpensZoo
from tests.support.asgi import Arrives, Request, ask
from tests.support.fakes import Blocks, Fails, FakeClock, Says, Waits

PATH = "/chat"
A_UUID = "550e8400-e29b-41d4-a716-446655440000"
HELLO = {"message": "How fast can you run?", "session_id": "my-talk"}
BODY = b'{"message": "How fast can you run?", "session_id": "my-talk"}'


async def read_history(
    client: httpx.AsyncClient, provider: Says, session_id: str = "my-talk", **more: str
) -> list[str]:
    """What the animal knows of the session when it is asked in it once more."""
    answer = await client.post(PATH, json={"message": "And now?", "session_id": session_id, **more})
    assert answer.status_code == 200, answer.text
    return [said.message for said in provider.prompts[-1].history]


class LeavesWhenTold(Arrives):
    """A connection whose client goes away when `now` is set."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.now = asyncio.Event()

    async def __call__(self) -> Message:
        if self._waiting:
            return await super().__call__()
        await self.now.wait()
        return {"type": "http.disconnect"}


async def test_the_stages_then_the_tokens_then_done(open_client: OpensClient) -> None:
    """Unnamed events of one shape, to the millisecond; no `Accept` is needed."""
    clock = FakeClock()
    client = await open_client(Says("Roar! ", "I am Leo."), clock=clock)
    at = format_timestamp(clock.now())

    answer = await client.post(PATH, json=HELLO)

    assert list_event_data(answer) == [
        {"type": "retrieval_start", "content": {"stage": "retrieval", "status": "started"}, "timestamp": at},
        {
            "type": "retrieval_complete",
            "content": {"stage": "retrieval", "status": "complete", "doc_count": 1},
            "timestamp": at,
        },
        {"type": "reranking_start", "content": {"stage": "reranking", "status": "started"}, "timestamp": at},
        {"type": "reranking_complete", "content": {"stage": "reranking", "status": "complete"}, "timestamp": at},
        {"type": "token", "content": "Roar! ", "timestamp": at},
        {"type": "token", "content": "I am Leo.", "timestamp": at},
        {"type": "done", "content": {}, "timestamp": at},
    ]
    assert b"event:" not in answer.content
    assert b'data: {"type":"done"' in answer.content


async def test_a_failure_is_an_error_event(open_client: OpensClient) -> None:
    """With a message for people and a code for programs, and the problem object beside them."""
    client = await open_client(Fails(OSError("secret"), "Well, "))

    error = get_last_event(await client.post(PATH, json=HELLO)).data

    assert error["type"] == "error"
    assert error["content"] == {"message": error["problem"]["detail"], "code": "internal_error"}


@pytest.mark.parametrize(
    ("accept", "streaming", "media_type"),
    [
        (None, None, "text/event-stream"),
        ("*/*", None, "text/event-stream"),
        ("text/event-stream", None, "text/event-stream"),
        ("application/json", None, "application/json"),
        ("application/json;q=0.9, text/event-stream;q=0.1", None, "application/json"),
        (None, False, "application/json"),
        ("text/event-stream", False, "application/json"),
        ("application/json", True, "text/event-stream"),
    ],
)
async def test_json_on_wish(
    client: httpx.AsyncClient, accept: str | None, streaming: bool | None, media_type: str
) -> None:
    """By `Accept` or by the body, which has the last word; a stream for all who do not say."""
    body = HELLO if streaming is None else {**HELLO, "streaming": streaming}
    client.headers.pop("accept")

    answer = await client.post(PATH, json=body, headers={"Accept": accept} if accept else {})

    assert answer.headers["content-type"].partition(";")[0] == media_type


async def test_the_json_answer_has_all_that_the_stream_tells(open_client: OpensClient) -> None:
    """With the session's name as the client chose it, not our id."""
    client = await open_client(Says("Roar!"), clock=FakeClock())

    told = (await client.post(PATH, json={**HELLO, "streaming": False})).json()

    assert told == {
        "response": "Roar!",
        "session_id": "my-talk",
        "turn_id": told["turn_id"],
        "finish_reason": "stop",
        "doc_count": 1,
        "timestamp": "2026-11-21T10:30:40.000Z",
    }


async def test_a_failure_in_json_is_a_status(open_client: OpensClient) -> None:
    """The body is a problem object, as for all errors before the first byte."""
    client = await open_client(Fails(OSError("secret")))

    answer = await client.post(PATH, json={**HELLO, "streaming": False})

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


async def test_a_blocked_message_in_json_says_so(open_client: OpensClient) -> None:
    """The reply is the rule's fixed words, and `finish_reason` says why."""
    client = await open_client(moderator=Blocks("Please ask a grown-up."))

    told = (await client.post(PATH, json={**HELLO, "streaming": False})).json()

    assert (told["response"], told["finish_reason"]) == ("Please ask a grown-up.", "blocked")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"session_id": "a"}, "message"),
        ({**HELLO, "message": ""}, "message"),
        ({**HELLO, "message": " \t"}, "message"),
        ({**HELLO, "message": "x" * 5001}, "message"),
        ({**HELLO, "message": ["Hi"]}, "message"),
        ({**HELLO, "session_id": ""}, "session_id"),
        ({**HELLO, "session_id": "x" * 129}, "session_id"),
        ({**HELLO, "session_id": "a b"}, "session_id"),
        ({**HELLO, "session_id": "a\n"}, "session_id"),
        ({**HELLO, "session_id": "a\r\nx: y"}, "session_id"),
        ({**HELLO, "session_id": "../a"}, "session_id"),
        ({**HELLO, "session_id": 7}, "session_id"),
        ({**HELLO, "streaming": "no"}, "streaming"),
        ({**HELLO, "animal_id": "Lion"}, "animal_id"),
        ({**HELLO, "onDisconnect": "explode"}, "onDisconnect"),
    ],
)
async def test_bad_input_is_400_and_names_the_field(
    client: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    """The same for streams and for JSON answers."""
    answer = await client.post(PATH, json=body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


@pytest.mark.parametrize("message", ["x" * 5000, "🦁" * 5000])
async def test_five_thousand_characters_are_heard(open_client: OpensClient, message: str) -> None:
    """The limit counts code points."""
    provider = Says()
    client = await open_client(provider)

    assert (await client.post(PATH, json={**HELLO, "message": message})).status_code == 200
    assert provider.prompts[0].message == message


async def test_a_session_is_the_callers_account_whatever_the_cookie(open_zoo: OpensZoo) -> None:
    """The same name means one session for a user on all devices, and another for everybody else."""
    provider = Says()
    zoo = await open_zoo(provider)
    here, there, nobody = await log_in_client(zoo, "user1"), await log_in_client(zoo, "user1"), await zoo.new_client()
    there.cookies.set("session_id", "x" * 22)
    await read_history(here, provider)

    assert await read_history(there, provider) == ["And now?"]
    assert await read_history(nobody, provider) == []
    assert await read_history(await log_in_client(zoo, "parent1"), provider) == []


async def test_a_session_is_the_cookies_whatever_the_address(open_zoo: OpensZoo) -> None:
    """A phone changes its address; another phone with the same name for its session has another."""
    provider = Says()
    zoo = await open_zoo(provider)
    callers = [await zoo.new_client("10.0.0.1"), await zoo.new_client("10.0.0.2"), await zoo.new_client("10.0.0.1")]
    for caller, value in zip(callers, ("x" * 22, "x" * 22, "y" * 22), strict=True):
        caller.cookies.set("session_id", value)

    assert [await read_history(caller, provider) for caller in callers] == [[], ["And now?"], []]


async def test_a_uuid_is_a_session_by_itself(open_zoo: OpensZoo) -> None:
    """A UUID is unique, so it works from any address and in any spelling."""
    provider = Says()
    zoo = await open_zoo(provider)
    here, there = await zoo.new_client("10.0.0.1"), await zoo.new_client("10.0.0.2")

    assert await read_history(here, provider, A_UUID) == []
    assert await read_history(there, provider, A_UUID) == ["And now?"]


async def test_any_other_name_counts_within_the_address(open_zoo: OpensZoo) -> None:
    """Two visitors who both use the name "default" have two sessions."""
    provider = Says()
    zoo = await open_zoo(provider)
    here, there = await zoo.new_client("10.0.0.1"), await zoo.new_client("10.0.0.2")

    assert await read_history(here, provider) == []
    assert await read_history(there, provider) == []
    assert await read_history(await zoo.new_client("10.0.0.1"), provider) == ["And now?"]


async def test_two_names_are_two_sessions(open_client: OpensClient) -> None:
    """One caller can have several sessions."""
    provider = Says()
    client = await open_client(provider)

    assert await read_history(client, provider, "a") == []
    assert await read_history(client, provider, "A") == []
    assert await read_history(client, provider, "a") == ["And now?"]


async def test_a_session_keeps_its_animal(open_client: OpensClient) -> None:
    """Who is not named is the session's; another one than that is 422."""
    provider = Says()
    client = await open_client(provider)
    await read_history(client, provider, animal_id="tiger_001")

    await read_history(client, provider)
    other = await client.post(PATH, json={**HELLO, "animal_id": "lion_001"})

    assert provider.prompts[1].animal.animal_id == "tiger_001"
    assert (other.status_code, other.json()["code"]) == (422, "animal_mismatch")


async def test_an_animal_that_does_not_live_here_is_404(client: httpx.AsyncClient) -> None:
    """Nothing has been stored."""
    answer = await client.post(PATH, json={**HELLO, "animal_id": "unicorn_001"})

    assert (answer.status_code, answer.json()["code"]) == (404, "animal_not_found")


async def test_a_stopped_turn_ends_as_cancelled(open_client: OpensClient) -> None:
    """Whoever stops it: every reader is told, and what was said stands."""
    provider = Waits()
    client = await open_client(provider)
    stream = asyncio.create_task(client.post(PATH, json={**HELLO, "onDisconnect": "continue"}))
    await provider.has_begun.wait()
    busy = await client.post(PATH, json={**HELLO, "onBusy": "reject"})

    stopped = await client.post(f"/convo_turn/{busy.json()['turnId']}/stop")

    assert stopped.status_code == 200
    assert [data["type"] for data in list_event_data(await stream)][-2:] == ["token", "cancelled"]
    assert get_last_event(await stream).data["content"] == {}


@pytest.mark.parametrize("body", [BODY, BODY[:-1] + b', "streaming": false}'], ids=["stream", "JSON"])
async def test_leaving_stops_the_animal_and_the_next_question_keeps_the_context(
    open_zoo: OpensZoo, capsys: pytest.CaptureFixture[str], body: bytes
) -> None:
    """Clients of this contract stop by aborting; what was said until then is kept and known."""
    provider = Waits()
    zoo = await open_zoo(provider)
    leaves = LeavesWhenTold(body)
    request = Request("POST", PATH, headers=(("Content-Type", "application/json"),))
    abandoned = asyncio.create_task(ask(zoo.app, request, leaves))
    await provider.has_begun.wait()

    leaves.now.set()
    await abandoned
    client = await zoo.new_client("unknown")
    provider.go.set()
    following = await client.post(PATH, json={**HELLO, "message": "And now?"})

    assert following.status_code == 200
    assert "Stream cancelled by client" in capsys.readouterr().out
    assert [(said.message, said.reply) for said in provider.prompts[1].history] == [(HELLO["message"], "Ready, ")]


async def test_whoever_means_to_come_back_says_so(open_zoo: OpensZoo) -> None:
    """`onDisconnect: continue`: the turn goes on without a reader, and can be resumed."""
    provider = Waits()
    zoo = await open_zoo(provider)
    leaves = LeavesWhenTold(BODY[:-1] + b', "onDisconnect": "continue"}')
    request = Request("POST", PATH, headers=(("Content-Type", "application/json"),))
    abandoned = asyncio.create_task(ask(zoo.app, request, leaves))
    await provider.has_begun.wait()
    leaves.now.set()
    turn_id = (await abandoned)["x-streaming-session-id"]
    client = await zoo.new_client("unknown")

    provider.go.set()
    rest = await client.post(PATH, json=HELLO, headers={"Last-Event-ID": f"{turn_id}-1"})

    assert get_last_event(rest).data["type"] == "done"
    assert "".join(data["content"] for data in list_event_data(rest) if data["type"] == "token") == "Ready, go."


async def test_a_session_ends_a_day_after_its_last_message(open_client: OpensClient) -> None:
    """To the second; then the same name begins anew, with any animal."""
    provider, clock = Says(), FakeClock()
    client = await open_client(provider, clock=clock)
    await read_history(client, provider, animal_id="tiger_001")

    clock.advance(86_399)
    assert await read_history(client, provider) == ["And now?"]
    clock.advance(86_400)
    assert await read_history(client, provider, animal_id="lion_001") == []


async def test_the_first_token_is_timed_in_the_log(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log line has seconds with three decimals."""
    await client.post(PATH, json=HELLO)

    assert re.search(r"First token latency: 0\.\d{3}s", capsys.readouterr().out)


async def test_timestamps_are_of_now(client: httpx.AsyncClient) -> None:
    """They are RFC 3339 in UTC."""
    before = format_timestamp(datetime.now(UTC))
    answer = await client.post(PATH, json=HELLO)

    times = [data["timestamp"] for data in list_event_data(answer)]
    assert [before, *times] == sorted([before, *times])
