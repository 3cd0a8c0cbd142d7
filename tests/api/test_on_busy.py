"""A second message while the session's last one is being answered, in all five contracts: `onBusy`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from openapi_server.models.turn import TurnStatus
from tests.api.chat_endpoints import (
    CHAT,
    CHAT_ENDPOINTS,
    CONVO,
    DEVICES,
    PLATFORM,
    SESSIONS,
    ChatEndpoint,
    EndpointClient,
    get_turn_id,
    open_endpoint,
)
from tests.conftest import OpensZoo, RunningApp
from tests.support.asgi import Leaves, Request, ask
from tests.support.contract import parse_events
from tests.support.fakes import Answers

ALL = pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)
# How a stream says that its turn waits; the others have a comment.
QUEUED_SIGN = {"convo": b'"stage":"queued"', "platform": b"event: heartbeat"}
COMMENT = b": queued\n\n"
# A contract whose clients stop a turn by leaving: this says that they may come back.
KEEP_RUNNING = {"chat": {"onDisconnect": "continue"}}
WAIT_S = 10


@dataclass
class Talk:
    """A caller's session in one contract, and the animal in it."""

    zoo: RunningApp
    chat: EndpointClient
    answers: Answers
    session_id: str = ""
    members: dict[str, object] = field(default_factory=dict)

    async def post(self, message: str, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
        """Send a message; the answer when all of it has come."""
        endpoint = self.chat.endpoint
        body = {**endpoint.body, endpoint.message_field: message, **self.members, **members}
        return await asyncio.wait_for(self.chat.client.post(self.chat.path, json=body, headers=headers), WAIT_S)

    async def begin(self, message: str, **members: Any) -> asyncio.Task[httpx.Response]:
        """Send a message, and return in the middle of its reply."""
        task = asyncio.create_task(self.post(message, **members))
        begun = asyncio.create_task(self.answers.has_begun[message].wait())
        await asyncio.wait((task, begun), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert begun.done(), "the turn did not begin"
        return task

    async def enqueue(self, message: str, **members: Any) -> asyncio.Task[httpx.Response]:
        """Send a message, and return when it waits in the queue."""
        count = await self.count_queued()
        task = asyncio.create_task(self.post(message, **members))
        async with asyncio.timeout(WAIT_S):
            while await self.count_queued() == count and not task.done():  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.005)
        return task

    async def count_queued(self) -> int:
        turns = await self.zoo.services.store.list_latest_turns(self.session_id, 100)
        return sum(turn.status is TurnStatus.QUEUED for turn in turns)

    async def list_told(self) -> list[tuple[str, str, str]]:
        """Message, status and reply of each turn of the session but the first, oldest first."""
        turns = await self.zoo.services.store.list_latest_turns(self.session_id, 100)
        return [(turn.message, turn.status.value, (turn.outcome and turn.outcome.reply) or "") for turn in turns[1:]]

    @property
    def cookies(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.chat.client.cookies.items())

    def read(self, answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        return self.chat.read_text(answer)


@asynccontextmanager
async def open_talk(open_zoo: OpensZoo, endpoint: ChatEndpoint, **settings: Any) -> AsyncIterator[Talk]:
    """A session in which one message was answered; what still runs at the end is let go."""
    answers = Answers()
    zoo = await open_zoo(answers, **settings)
    talk = Talk(zoo, await open_endpoint(zoo, endpoint), answers)
    answers.finish("zero")
    turn = await zoo.services.store.get_turn(get_turn_id(await talk.post("zero")))
    assert turn is not None
    talk.session_id = turn.session_id
    if endpoint is CONVO:
        talk.members["sessionId"] = turn.session_id
    yield talk
    await zoo.services.engine.close()


@ALL
async def test_a_message_that_waits_is_answered_after_the_one_before(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """Its stream begins at once and says that it waits; the animal knows what was said before it."""
    async with open_talk(open_zoo, endpoint) as talk:
        first = await talk.begin("one")
        second = await talk.enqueue("two", onBusy="enqueue")
        assert await talk.list_told() == [("one", "running", ""), ("two", "queued", "")]
        talk.answers.finish("one", "two")

        assert [talk.read(await task) for task in (first, second)] == ["To one", "To two"]
        assert QUEUED_SIGN.get(endpoint.name, COMMENT) in (await second).content
        assert QUEUED_SIGN.get(endpoint.name, COMMENT) not in (await first).content
        assert talk.answers.histories["two"][-1] == ("one", "To one")


@ALL
async def test_a_message_that_interrupts_is_answered_and_what_was_said_is_kept(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """The readers of the first turn get its end."""
    async with open_talk(open_zoo, endpoint) as talk:
        first = await talk.begin("one")
        talk.answers.finish("two")
        second = await talk.post("two", onBusy="interrupt")

        assert [talk.read(answer) for answer in (await first, second)] == ["To ", "To two"]
        assert await talk.list_told() == [("one", "stopped", "To "), ("two", "succeeded", "To two")]
        assert talk.answers.histories["two"][-1] == ("one", "To ")


@ALL
async def test_a_message_that_must_not_wait_is_refused_with_the_running_turn(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """409 where the request says so, in every contract. Nothing of it is stored."""
    async with open_talk(open_zoo, endpoint) as talk:
        first = await talk.begin("one")
        second = await talk.post("two", onBusy="reject")
        talk.answers.finish("one")

        assert (second.status_code, second.json()["code"]) == (409, "turn_running")
        assert second.json()["turnId"] == get_turn_id(await first)
        assert [message for message, *_ in await talk.list_told()] == ["one"]


# What a request says that leaves the choice to its contract.
DEFAULTS = pytest.mark.parametrize("default", [{}, {"onBusy": None}], ids=["absent", "null"])
FRONT_ENDS = pytest.mark.parametrize("endpoint", [CHAT, DEVICES], ids=["chat", "devices"])


@DEFAULTS
@pytest.mark.parametrize(
    ("endpoint", "status", "code"),
    [(CONVO, 409, "turn_running"), (SESSIONS, 400, "session_streaming")],
    ids=["convo", "sessions"],
)
async def test_some_contracts_refuse_by_default(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, status: int, code: str, default: dict[str, Any]
) -> None:
    """Each with its own status."""
    async with open_talk(open_zoo, endpoint) as talk:
        first = await talk.begin("one")
        second = await talk.post("two", **default)
        talk.answers.finish("one")

        assert (second.status_code, second.json()["code"]) == (status, code)
        assert second.json()["turnId"] == get_turn_id(await first)


@DEFAULTS
async def test_the_platform_answers_beside_by_default(open_zoo: OpensZoo, default: dict[str, Any]) -> None:
    """In a session of its own."""
    async with open_talk(open_zoo, PLATFORM) as talk:
        first = await talk.begin("one")
        talk.answers.finish("two")
        assert talk.read(await talk.post("two", **default)) == "To two"
        talk.answers.finish("one")

        assert talk.read(await first) == "To one"
        assert [message for message, *_ in await talk.list_told()] == ["one"]


@DEFAULTS
@FRONT_ENDS
async def test_front_ends_that_know_no_refusal_are_answered_by_default(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, default: dict[str, Any]
) -> None:
    """Somebody reads the first answer: it is told whole, and then the second one."""
    async with open_talk(open_zoo, endpoint) as talk:
        first = await talk.begin("one")
        second = await talk.enqueue("two", **default)
        talk.answers.finish("one", "two")

        assert [talk.read(await task) for task in (first, second)] == ["To one", "To two"]


@FRONT_ENDS
async def test_by_default_an_answer_that_nobody_reads_any_more_is_interrupted(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """The page was reloaded: what it had asked is of no use any more, but what was said is kept."""
    async with open_talk(open_zoo, endpoint) as talk:
        first = await talk.begin("one", **KEEP_RUNNING.get(endpoint.name, {}))
        await leave(first)
        talk.answers.finish("two")

        assert talk.read(await talk.post("two")) == "To two"
        assert await talk.list_told() == [("one", "stopped", "To "), ("two", "succeeded", "To two")]


@FRONT_ENDS
async def test_a_client_that_leaves_before_the_first_byte_leaves_its_turn_unread(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """Its next message does not wait for an answer that nobody gets."""
    async with open_talk(open_zoo, endpoint) as talk:
        body = {**endpoint.body, endpoint.message_field: "one", **KEEP_RUNNING.get(endpoint.name, {})}
        headers = {"Content-Type": "application/json", "Cookie": talk.cookies, **endpoint.headers}
        gone = await ask(
            talk.zoo.app,
            Request("POST", endpoint.path, headers=tuple(headers.items())),
            Leaves(json.dumps(body).encode()),
        )
        assert gone.status is None
        await asyncio.wait_for(talk.answers.has_begun["one"].wait(), WAIT_S)
        talk.answers.finish("two")

        assert talk.read(await talk.post("two")) == "To two"
        assert talk.zoo.services.engine.reader_count == 0


@ALL
async def test_an_unknown_choice_is_400_and_named(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Whether the session is busy or not."""
    async with open_talk(open_zoo, endpoint) as talk:
        values: list[object] = ["later", "INTERRUPT", "interrupt_unread", "", 1, True, ["enqueue"], {}]
        for value in values:
            answer = await talk.post("two", onBusy=value)
            assert answer.status_code == 400, value
            assert [error["field"] for error in answer.json()["errors"]] == ["onBusy"]
        assert await talk.list_told() == []


@ALL
@pytest.mark.parametrize("on_busy", ["reject", "enqueue", "interrupt"])
async def test_in_a_session_that_is_not_busy_every_choice_is_the_same(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, on_busy: str
) -> None:
    """Nothing waits, and nothing says so."""
    async with open_talk(open_zoo, endpoint) as talk:
        talk.answers.finish("one")
        answer = await talk.post("one", onBusy=on_busy)

        assert talk.read(answer) == "To one"
        assert QUEUED_SIGN.get(endpoint.name, COMMENT) not in answer.content


@ALL
async def test_a_message_that_has_waited_too_long_gets_the_refusal_as_an_error(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """Its stream had begun. The problem names the turn that was in the way; the message is stored."""
    async with open_talk(open_zoo, endpoint, QUEUE_TIMEOUT=0.05) as talk:
        first = await talk.begin("one")
        second = await talk.post("two", onBusy="enqueue")
        talk.answers.finish("one")

        problem = talk.chat.read_problem(second)
        assert (problem["status"], problem["code"]) == (409, "turn_running")
        assert problem["turnId"] == get_turn_id(await first)
        assert await talk.list_told() == [("one", "succeeded", "To one"), ("two", "failed", "")]


@ALL
async def test_a_message_that_has_waited_too_long_may_be_sent_again(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """With its key: it is a new turn, which its repetition joins."""
    async with open_talk(open_zoo, endpoint, QUEUE_TIMEOUT=0.05) as talk:
        key = {"Idempotency-Key": "0b6f9c1e-58a3-4d0e-9b6e-3a1c2d4e5f60"}
        first = await talk.begin("one")
        refused = await talk.post("two", headers=key, onBusy="enqueue")
        talk.answers.finish("one", "two")
        await first
        answer, again = [await talk.post("two", headers=key, onBusy="enqueue") for _ in range(2)]

        assert talk.chat.read_problem(refused)["code"] == "turn_running"
        assert talk.read(answer) == talk.read(again) == "To two"
        assert get_turn_id(answer) == get_turn_id(again) != get_turn_id(refused)
        assert talk.answers.begun == ["zero", "one", "two"]
        assert [told[:2] for told in await talk.list_told()][-2:] == [("two", "failed"), ("two", "succeeded")]


@ALL
async def test_a_ninth_message_that_would_wait_is_refused(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """The eight before it are answered, in order."""
    async with open_talk(open_zoo, endpoint) as talk:
        names = [str(n) for n in range(9)]
        tasks = [await talk.begin(names[0]), *[await talk.enqueue(name, onBusy="enqueue") for name in names[1:]]]
        ninth = await talk.post("late", onBusy="interrupt")
        talk.answers.finish(*names)

        assert (ninth.status_code, ninth.json()["code"]) == (409, "turn_running")
        assert ninth.json()["turnId"] == get_turn_id(await tasks[0])
        assert [talk.read(await task) for task in tasks] == [f"To {name}" for name in names]
        assert [message for message, *_ in await talk.list_told()] == names


@ALL
async def test_messages_at_the_same_moment_wait_in_the_order_of_their_arrival(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they overtake each other while they are read: here whoever comes last to the animals passes first."""
    async with open_talk(open_zoo, endpoint) as talk:
        names = [str(n) for n in range(8)]
        first = await talk.begin("one")
        passing: list[asyncio.Event] = []

        async def refresh() -> None:
            passing.append(asyncio.Event())
            mine = passing[-1]
            if len(passing) == len(names):
                mine.set()
            await mine.wait()
            place = passing.index(mine)
            asyncio.get_running_loop().call_soon(passing[place - 1].set if place else str)

        monkeypatch.setattr(talk.zoo.services.knowledge, "refresh", refresh)
        tasks = [asyncio.create_task(talk.post(name, onBusy="enqueue")) for name in names]
        talk.answers.finish("one", *names)

        assert [talk.read(await task) for task in (first, *tasks)] == [f"To {name}" for name in ("one", *names)]
        assert [message for message, *_ in await talk.list_told()] == ["one", *names]


@ALL
@pytest.mark.parametrize("on_busy", ["reject", "enqueue", "interrupt"])
async def test_of_fifty_messages_at_once_each_is_answered_or_refused(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, on_busy: str
) -> None:
    """None is lost, none is told twice, and what was refused is not stored."""
    async with open_talk(open_zoo, endpoint) as talk:
        names = [str(n) for n in range(50)]
        talk.answers.finish(*names)
        answers = await asyncio.gather(*(talk.post(name, onBusy=on_busy) for name in names))
        accepted = [(name, answer) for name, answer in zip(names, answers, strict=True) if answer.status_code == 200]

        assert {answer.status_code for answer in answers} <= {200, 409}
        told = {message: (status, reply) for message, status, reply in await talk.list_told()}
        assert sorted(told) == sorted(name for name, _ in accepted)
        for name, answer in accepted:
            status, reply = told[name]
            assert status in ("succeeded", "stopped")
            assert talk.chat.read_text(answer) == reply
            assert reply == f"To {name}" or (on_busy == "interrupt" and status == "stopped")


@ALL
async def test_a_repeated_request_joins_the_message_that_waits(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """With the same key it is one turn, also where it would interrupt."""
    async with open_talk(open_zoo, endpoint) as talk:
        key = {"Idempotency-Key": "0b6f9c1e-58a3-4d0e-9b6e-3a1c2d4e5f60"}
        first = await talk.begin("one")
        second = await talk.enqueue("two", headers=key, onBusy="enqueue")
        again = asyncio.create_task(talk.post("two", headers=key, onBusy="enqueue"))
        other = await talk.post("two", headers=key, onBusy="interrupt")
        talk.answers.finish("one", "two")

        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        assert talk.read(await first) == "To one"
        assert get_turn_id(await second) == get_turn_id(await again)
        assert talk.read(await second) == talk.read(await again) == "To two"
        assert talk.answers.begun == ["zero", "one", "two"]


@ALL
async def test_a_message_that_waits_is_resumed_and_not_asked_again(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Its client lost the connection in the queue, or before the last words."""
    async with open_talk(open_zoo, endpoint) as talk:
        await talk.begin("one")
        second = await talk.enqueue("two", onBusy="enqueue", **KEEP_RUNNING.get(endpoint.name, {}))
        (*_, turn) = await talk.zoo.services.store.list_latest_turns(talk.session_id, 1)
        await leave(second)
        headers = {"Last-Event-ID": f"{turn.turn_id}-1"}
        resumed = asyncio.create_task(talk.post("two", headers=headers, onBusy="enqueue"))
        talk.answers.finish("one", "two")

        assert talk.read(await resumed) == "To two"
        assert [status for _, status, _ in await talk.list_told()] == ["succeeded", "succeeded"]


@ALL
async def test_a_client_that_leaves_the_queue_for_good_leaves_no_gap(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """Its message stays, unanswered; the one behind it moves up."""
    async with open_talk(open_zoo, endpoint, ORPHAN_GRACE=0) as talk:
        first = await talk.begin("one")
        second = await talk.enqueue("two", onBusy="enqueue")
        third = await talk.enqueue("three", onBusy="enqueue")
        await leave(second)
        talk.answers.finish("one", "three")

        assert [talk.read(await task) for task in (first, third)] == ["To one", "To three"]
        assert (await talk.list_told())[1] == ("two", "stopped", "")
        assert talk.answers.begun == ["zero", "one", "three"]


@pytest.mark.parametrize(
    ("endpoint", "path", "members"),
    [(CONVO, "/convo_turn", {}), (CHAT, "/chat", {"streaming": False}), (DEVICES, "/chat/", {})],
    ids=["convo", "chat", "devices"],
)
async def test_a_request_for_json_waits_for_its_answer(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, path: str, members: dict[str, Any]
) -> None:
    """It gets the reply when it has had its turn, or the refusal as its status."""
    async with open_talk(open_zoo, endpoint, QUEUE_TIMEOUT=1) as talk:
        first = await talk.begin("one")
        talk.chat.path = path
        second = await talk.enqueue("two", onBusy="enqueue", **members)
        talk.answers.finish("one")
        await asyncio.wait_for(talk.answers.has_begun["two"].wait(), WAIT_S)
        third = await talk.post("three", onBusy="enqueue", **members)
        talk.answers.finish("two")

        assert (await first).status_code == 200
        answer = (await second).json()
        assert "To two" in (answer.get("reply"), answer.get("response"), answer.get("content"))
        assert (third.status_code, third.json()["code"]) == (409, "turn_running")


async def test_a_message_that_waits_can_be_polled_and_stopped(open_zoo: OpensZoo) -> None:
    """The state says `queued`, with no progress; after the stop it has an end, and the stream has one, too."""
    async with open_talk(open_zoo, CONVO) as talk:
        first = await talk.begin("one")
        accepted = await talk.post("two", headers={"Prefer": "respond-async"}, onBusy="enqueue")
        path = accepted.headers["location"]
        polled = (await talk.chat.client.get(path)).json()
        stream = asyncio.create_task(talk.chat.client.get(f"{path}/stream"))
        async with asyncio.timeout(WAIT_S):
            while talk.zoo.services.engine.reader_count < 2:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.005)
        stopped = await talk.chat.client.post(f"{path}/stop")

        assert accepted.status_code == 202
        assert accepted.json()["status"] == polled["status"] == "queued"
        assert polled["progress"] == 0
        assert (stopped.json()["status"], stopped.json()["reply"]) == ("stopped", "")
        end = parse_events((await stream).content)[-1]
        assert (end.event, end.data["finishReason"]) == ("complete", "stopped")
        talk.answers.finish("one")
        assert talk.read(await first) == "To one"


async def test_a_job_that_waits_is_pending(open_zoo: OpensZoo) -> None:
    """Then it runs and succeeds like any other; its status never goes back."""
    async with open_talk(open_zoo, PLATFORM) as talk:
        await talk.begin("one")
        job = (
            await talk.chat.client.post("/api/v1/stream?mode=job", json={"query": "two", "onBusy": "enqueue"})
        ).json()
        states = [(await talk.chat.client.get(job["polling_url"])).json()["status"]]
        talk.answers.finish("one")
        await asyncio.wait_for(talk.answers.has_begun["two"].wait(), WAIT_S)
        states.append((await talk.chat.client.get(job["polling_url"])).json()["status"])
        talk.answers.finish("two")
        (*_, turn) = await talk.zoo.services.store.list_latest_turns(talk.session_id, 1)
        with await talk.zoo.services.engine.open_reader(turn.turn_id) as reader:
            await reader.read_to_end()
        states.append((await talk.chat.client.get(job["polling_url"])).json()["status"])

        assert states == ["pending", "running", "succeeded"]


async def test_a_device_that_asks_for_another_animal_while_one_speaks(open_zoo: OpensZoo) -> None:
    """The lion ends its sentence; the tiger answers what came after the wish, too."""
    async with open_talk(open_zoo, DEVICES) as talk:
        first = await talk.begin("one")
        wish = await talk.enqueue("May I talk to the tiger?")
        after = await talk.enqueue("three")
        talk.answers.finish("one", "May I talk to the tiger?", "three")
        for task in (first, wish, after):
            assert (await task).status_code == 200

        turns = await talk.zoo.services.store.list_latest_turns(talk.session_id, 3)
        assert [turn.animal_id for turn in turns] == ["lion_001", "tiger_001", "tiger_001"]


@pytest.mark.parametrize("endpoint", [CONVO, SESSIONS], ids=["convo", "sessions"])
async def test_a_deleted_session_takes_its_queue_with_it(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Every open stream ends, and nothing more is said."""
    async with open_talk(open_zoo, endpoint) as talk:
        tasks = [await talk.begin("one"), *[await talk.enqueue(name, onBusy="enqueue") for name in ("two", "three")]]
        path = "/convo_history" if endpoint is CONVO else f"/chat/sessions/{talk.session_id}"
        query = {"sessionId": talk.session_id} if endpoint is CONVO else None
        deleted = await talk.chat.client.delete(path, params=query)

        assert deleted.status_code in (200, 204)
        for task in tasks:
            assert talk.chat.read_problem(await task)["code"] == "session_deleted"
        assert talk.answers.begun == ["zero", "one"]
        assert talk.zoo.services.engine.queued_count == 0


async def test_the_history_is_in_order_and_its_times_never_go_back(open_zoo: OpensZoo) -> None:
    """Each message has its reply behind it, although it came before the reply to the one before it."""
    async with open_talk(open_zoo, CONVO) as talk:
        tasks = [await talk.begin("one"), *[await talk.enqueue(name, onBusy="enqueue") for name in ("two", "three")]]
        talk.answers.finish("one", "two", "three")
        await asyncio.gather(*tasks)
        history = (await talk.chat.client.get("/convo_history", params={"sessionId": talk.session_id})).json()

        said = [turn["content"] for turn in history["turns"]]
        assert said == [text for name in ("zero", "one", "two", "three") for text in (name, f"To {name}")]
        times = [turn["timestamp"] for turn in history["turns"]]
        assert times == sorted(times)


async def test_a_running_stream_can_be_confirmed_while_another_waits(open_zoo: OpensZoo) -> None:
    """The client is done with it: it is stopped, and the one that waits has its turn. An old one is a mismatch."""
    async with open_talk(open_zoo, SESSIONS) as talk:
        path = talk.chat.path.replace("/stream", "/update-stream")
        first = await talk.begin("one")
        second = await talk.enqueue("two", onBusy="enqueue")
        zero, one, _ = await talk.zoo.services.store.list_latest_turns(talk.session_id, 3)
        confirmed = {"completeResponse": "To ", "tokensUsed": 1}
        old = await talk.chat.client.post(path, json={**confirmed, "streamingSessionId": zero.turn_id})
        right = await talk.chat.client.post(path, json={**confirmed, "streamingSessionId": one.turn_id})
        talk.answers.finish("two")

        assert (old.status_code, right.status_code) == (400, 200)
        assert [talk.read(await task) for task in (first, second)] == ["To ", "To two"]


async def test_credits_are_reserved_when_a_message_has_its_turn(open_zoo: OpensZoo) -> None:
    """A waiting one holds none, and the entries add up to the balance however its turn ends."""
    async with open_talk(open_zoo, SESSIONS) as talk:
        credits = talk.zoo.services.credits
        first = await talk.begin("one")
        held = await credits.get_balance("user1")
        tasks = [await talk.enqueue(name, onBusy="enqueue") for name in ("two", "three", "four")]
        assert await credits.get_balance("user1") == held
        turns = await talk.zoo.services.store.list_latest_turns(talk.session_id, 3)
        await talk.zoo.services.engine.stop_turn(turns[1].turn_id)
        talk.answers.finish("one", "two", "four")
        for task in (first, *tasks):
            assert (await task).status_code == 200

        entries = (await credits.list_entries("user1", 100)).items
        balance = await credits.get_balance("user1")
        assert balance is not None
        assert balance.credits == sum(entry.credits for entry in entries)
        assert sum(entry.kind.value == "reserve" for entry in entries) == 4


async def test_where_the_queue_is_off_nothing_waits(open_zoo: OpensZoo) -> None:
    """`QUEUE_DEPTH=0`: as if every message said `reject`."""
    async with open_talk(open_zoo, DEVICES, queue_depth=0) as talk:
        first = await talk.begin("one")
        second = await talk.post("two")
        talk.answers.finish("one")

        assert second.status_code == 409
        assert talk.read(await first) == "To one"


async def leave(task: asyncio.Task[httpx.Response]) -> None:
    """The client closes the connection."""
    task.cancel()
    await asyncio.wait((task,))
