"""What a turn costs, however it ends: a test for each row of the table in docs/accounts.md."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from openapi_server.clock import SystemClock
from openapi_server.engine.leases import Leases, make_worker_id
from openapi_server.models.credits import Allocation, Charge, CreditEntry
from openapi_server.models.errors import ProviderFailed
from openapi_server.models.personal_data import DataSubject
from openapi_server.models.turn import TurnStatus, Usage
from openapi_server.models.user import Role, User
from openapi_server.protocols import ReplyEnd, Store
from openapi_server.storage.factory import Stores
from tests.api.chat_endpoints import (
    MANY_CREDITS,
    SESSIONS,
    EndpointClient,
    get_last_event,
    log_in_client,
    open_endpoint,
)
from tests.conftest import OpensZoo, RunningApp
from tests.support.examples import make_session, make_turn
from tests.support.fakes import Answers, Fails, Says, UnreliableStore
from tests.support.stores import open_sqlite

WAIT_S = 10
# "To ", the word that `Answers` has said when a reply has begun.
SAID = 1


@dataclass
class PaidTalk:
    """A session of user1 that costs credits, and the animal in it."""

    zoo: RunningApp
    chat: EndpointClient
    answers: Answers

    @property
    def session_id(self) -> str:
        return self.chat.path.split("/")[3]

    @property
    def client(self) -> httpx.AsyncClient:
        return self.chat.client

    async def post(self, message: str, **members: Any) -> httpx.Response:
        body = {"message": message, **members}
        return await asyncio.wait_for(self.client.post(self.chat.path, json=body), WAIT_S)

    async def begin(self, message: str, **members: Any) -> asyncio.Task[httpx.Response]:
        """Send a message, and return in the middle of its reply."""
        task = asyncio.create_task(self.post(message, **members))
        await asyncio.wait_for(self.answers.has_begun[message].wait(), WAIT_S)
        return task

    async def enqueue(self, message: str) -> asyncio.Task[httpx.Response]:
        """Send a message, and return when it waits."""
        task = asyncio.create_task(self.post(message, onBusy="enqueue"))
        await wait_until(lambda: self.zoo.services.engine.queued_count > 0)
        return task

    async def get_turn_id(self) -> str:
        """The id of the turn that runs."""
        turns = await self.zoo.services.store.list_latest_turns(self.session_id, 10)
        return next(turn.turn_id for turn in turns if turn.status is TurnStatus.RUNNING)

    async def count_charged(self) -> int:
        """What all turns have cost. The ledger adds up to the balance, and nothing is reserved any more."""
        balance: int = (await self.client.get("/credits/balance")).json()["credits"]
        entries = await self.list_entries()
        assert sum(entry.credits for entry in entries) == balance
        spent = sum(entry.spent or 0 for entry in entries)
        assert MANY_CREDITS - balance == spent
        return spent

    async def list_entries(self) -> list[CreditEntry]:
        return list((await self.zoo.services.credits.list_entries("user1", 100)).items)


async def wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_paid_talk(open_zoo: OpensZoo, **parts: Any) -> AsyncIterator[PaidTalk]:
    answers = Answers()
    zoo = await open_zoo(answers, **parts)
    await zoo.services.engine.open()
    yield PaidTalk(zoo, await open_endpoint(zoo, SESSIONS), answers)
    await zoo.services.engine.close()


async def delete_chat_session(talk: PaidTalk) -> httpx.Response:
    return await talk.client.delete(f"/chat/sessions/{talk.session_id}")


async def delete_history(talk: PaidTalk) -> httpx.Response:
    return await talk.client.delete("/convo_history", params={"sessionId": talk.session_id})


async def erase_own_data(talk: PaidTalk) -> httpx.Response:
    return await talk.client.delete("/privacy")


async def erase_as_parent(talk: PaidTalk) -> httpx.Response:
    parent = await log_in_client(talk.zoo, "parent1")
    return await parent.delete("/privacy", params={"userId": "user1"})


async def delete_as_administrator(talk: PaidTalk) -> httpx.Response:
    return await (await log_in_client(talk.zoo, "admin")).delete(f"/chat/sessions/{talk.session_id}")


DELETIONS = [delete_chat_session, delete_history, erase_own_data, erase_as_parent, delete_as_administrator]
ALL_DELETIONS = pytest.mark.parametrize("delete", DELETIONS)
Deletes = Callable[[PaidTalk], Awaitable[httpx.Response]]


@ALL_DELETIONS
async def test_a_deletion_charges_the_words_that_were_said(open_zoo: OpensZoo, delete: Deletes) -> None:
    """When it is answered they are charged, and nothing of the session is left."""
    async with open_paid_talk(open_zoo) as talk:
        stream = await talk.begin("one")
        turn_id = await talk.get_turn_id()

        assert (await delete(talk)).status_code in (200, 204)

        assert await talk.count_charged() == SAID
        assert get_last_event(await stream).data["error"] == "session_deleted"
        assert (await talk.client.get(f"/chat/sessions/{talk.session_id}")).status_code == 404
        assert (await talk.client.get(f"/convo_turn/{turn_id}")).status_code == 404
        assert (await talk.client.get("/privacy/export")).json()["sessions"] == []
        is_erased = delete in (erase_own_data, erase_as_parent)
        assert {entry.turn_id for entry in (await talk.list_entries())[:2]} == {None if is_erased else turn_id}


@ALL_DELETIONS
async def test_deleting_again_and_again_is_not_free(open_zoo: OpensZoo, delete: Deletes) -> None:
    """Whoever reads, deletes and asks anew pays for all that was said."""
    async with open_paid_talk(open_zoo) as talk:
        for count in range(1, 4):
            created = await talk.client.post("/chat/sessions", json={})
            talk.chat.path = f"/chat/sessions/{created.json()['sessionId']}/stream"
            stream = await talk.begin(f"question {count}")
            await delete(talk)
            await stream
            assert await talk.count_charged() == count * SAID


@ALL_DELETIONS
async def test_a_message_that_waited_for_a_deleted_session_costs_nothing(open_zoo: OpensZoo, delete: Deletes) -> None:
    """Only the reply that had begun does."""
    async with open_paid_talk(open_zoo) as talk:
        first, second = await talk.begin("one"), await talk.enqueue("two")
        await delete(talk)

        assert [get_last_event(await task).data["error"] for task in (first, second)] == ["session_deleted"] * 2
        assert await talk.count_charged() == SAID


class LaterClock(SystemClock):
    """The clock of a process that lives a minute later."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=1)


def open_other_process(folder: Path) -> AbstractAsyncContextManager[Stores]:
    """The stores of the same zoo, as another process opens them."""
    return open_sqlite(folder, SystemClock())


@pytest.mark.parametrize("kind", ["session", "data", "account"])
async def test_a_deletion_by_another_process_charges_the_words_that_were_said(
    open_zoo: OpensZoo, tmp_path: Path, kind: str
) -> None:
    """Another server, or `zoochat privacy erase`: the turn ends when its process renews the lease."""
    async with open_paid_talk(open_zoo, LEASE=0.3) as talk, open_other_process(tmp_path) as other:
        stream = await talk.begin("one")
        if kind == "session":
            await other.sessions.delete_session(talk.session_id)
        else:
            await other.personal_data.erase(DataSubject(owner="user:user1"), with_account=kind == "account")

        assert get_last_event(await stream).data["error"] == "session_deleted"
        if kind == "account":
            assert await other.credits.get_balance("user1") is None
        else:
            assert await talk.count_charged() == SAID
        assert await other.sessions.list_running_turns() == []


async def stop_turn(talk: PaidTalk) -> None:
    await talk.client.post(f"/convo_turn/{await talk.get_turn_id()}/stop")


async def confirm_stream(talk: PaidTalk) -> None:
    body = {"completeResponse": "", "streamingSessionId": await talk.get_turn_id(), "tokensUsed": 0}
    answer = await talk.client.post(f"/chat/sessions/{talk.session_id}/update-stream", json=body)
    assert answer.json()["tokensUsed"] == SAID


async def interrupt_with_next(talk: PaidTalk) -> None:
    talk.answers.finish("two")
    await talk.post("two", onBusy="interrupt")


@pytest.mark.parametrize(
    ("stop", "charged"),
    [(stop_turn, SAID), (confirm_stream, SAID), (interrupt_with_next, SAID + len("To two".split()))],
)
async def test_a_stop_charges_the_words_that_were_said(
    open_zoo: OpensZoo, stop: Callable[[PaidTalk], Awaitable[None]], charged: int
) -> None:
    """By a request, by a confirmation, or by the next message, which is charged by itself."""
    async with open_paid_talk(open_zoo) as talk:
        stream = await talk.begin("one")
        await stop(talk)

        assert get_last_event(await stream).data["tokensUsed"] == SAID
        assert await talk.count_charged() == charged


async def test_a_turn_that_nobody_reads_charges_the_words_that_were_said(open_zoo: OpensZoo) -> None:
    """Its reader left, and did not come back within the grace."""
    async with open_paid_talk(open_zoo, ORPHAN_GRACE=0.05) as talk:
        stream = await talk.begin("one")
        stream.cancel()
        await asyncio.wait((stream,))
        await wait_until(lambda: talk.zoo.services.engine.running_count == 0)

        assert await talk.count_charged() == SAID


async def test_a_message_that_is_stopped_while_it_waits_costs_nothing(open_zoo: OpensZoo) -> None:
    """Nothing was said, and nothing was reserved."""
    async with open_paid_talk(open_zoo) as talk:
        first, second = await talk.begin("one"), await talk.enqueue("two")
        turns = await talk.zoo.services.store.list_latest_turns(talk.session_id, 10)
        await talk.client.post(f"/convo_turn/{turns[-1].turn_id}/stop")
        talk.answers.finish("one")

        assert get_last_event(await second).data["tokensUsed"] == 0
        assert get_last_event(await first).data["tokensUsed"] == await talk.count_charged() == len("To one".split())


async def test_a_message_that_has_waited_too_long_costs_nothing(open_zoo: OpensZoo) -> None:
    """Nothing was reserved for it."""
    async with open_paid_talk(open_zoo, QUEUE_TIMEOUT=0.05) as talk:
        first, second = await talk.begin("one"), await talk.enqueue("two")
        assert get_last_event(await second).data["error"] == "turn_running"
        talk.answers.finish("one")

        assert get_last_event(await first).data["tokensUsed"] == await talk.count_charged() == len("To one".split())


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"STREAM_IDLE_TIMEOUT": 0.05}, "IDLE_TIMEOUT"), ({"TURN_DEADLINE": 0.05}, "turn_timeout")],
)
async def test_a_turn_that_takes_too_long_costs_nothing(
    open_zoo: OpensZoo, settings: dict[str, float], code: str
) -> None:
    """The model fell silent, or the turn reached its deadline."""
    async with open_paid_talk(open_zoo, **settings) as talk:
        stream = await talk.begin("one")

        assert get_last_event(await stream).data["error"] == code
        assert await talk.count_charged() == 0


async def test_a_model_that_fails_in_the_middle_costs_nothing(open_zoo: OpensZoo) -> None:
    """However many words it had said. They are kept."""
    zoo = await open_zoo(Fails(ProviderFailed(), "Well, ", "this ", "is "))
    talk = PaidTalk(zoo, await open_endpoint(zoo, SESSIONS), Answers())

    assert get_last_event(await talk.post("one")).data["error"] == "provider_failed"
    assert await talk.count_charged() == 0


async def test_a_turn_that_a_shutdown_cuts_off_costs_nothing(open_zoo: OpensZoo) -> None:
    """After the time that it had to finish."""
    async with open_paid_talk(open_zoo, DRAIN_TIMEOUT=0.05) as talk:
        first, second = await talk.begin("one"), await talk.enqueue("two")
        await talk.zoo.services.engine.drain()

        assert [get_last_event(await task).data["error"] for task in (first, second)] == ["interrupted", "draining"]
        assert await talk.count_charged() == 0


async def test_a_turn_that_finishes_in_a_shutdown_is_charged(open_zoo: OpensZoo) -> None:
    async with open_paid_talk(open_zoo) as talk:
        stream = await talk.begin("one")
        draining = asyncio.create_task(talk.zoo.services.engine.drain())
        talk.answers.finish("one")
        await draining

        assert get_last_event(await stream).data["tokensUsed"] == await talk.count_charged() == len("To one".split())


async def test_a_turn_whose_lease_was_lost_costs_nothing(open_zoo: OpensZoo, tmp_path: Path) -> None:
    """Another process has taken this one for dead, and has settled the turn as interrupted."""
    async with open_paid_talk(open_zoo, LEASE=0.3) as talk, open_other_process(tmp_path) as other:
        stream = await talk.begin("one")
        leases = Leases(other.sessions, LaterClock(), "elsewhere/1/bbbb", 30)
        assert await leases.settle_orphans() == 1

        assert get_last_event(await stream).data["error"] == "interrupted"
        assert await talk.count_charged() == 0


@pytest.mark.parametrize("is_deleted", [False, True], ids=["interrupted", "deleted before"])
async def test_a_turn_whose_process_was_killed_costs_nothing(tmp_path: Path, *, is_deleted: bool) -> None:
    """Nobody knows what it has said: whoever settles it releases what it had reserved, also of a deleted session."""
    clock = SystemClock()
    async with open_other_process(tmp_path) as stores:
        assert await stores.accounts.create_user(User("user1", Role.USER, "hash", clock.now()))
        await stores.credits.allocate_credits(Allocation("user1", 100, clock.now()))
        dead = replace(
            make_turn(at=clock.now()),
            worker=f"{socket.gethostname()}/{os.getpid()}/before",
            lease_until=clock.now() + timedelta(minutes=1),
        )
        session = make_session(owner="user:user1", at=clock.now())
        await stores.sessions.begin_turn(dead, session, charge=Charge("user1", 60))
        if is_deleted:
            await stores.sessions.delete_session(session.session_id)
        await Leases(stores.sessions, clock, make_worker_id(), 30).settle_orphans()

        assert await stores.sessions.list_running_turns() == []
        balance = await stores.credits.get_balance("user1")
        assert balance is not None
        assert balance.credits == 100


@pytest.mark.parametrize("is_deleted", [False, True], ids=["ended", "deleted"])
async def test_a_turn_that_cannot_be_settled_costs_nothing(
    open_zoo: OpensZoo, monkeypatch: pytest.MonkeyPatch, *, is_deleted: bool
) -> None:
    """The store was away at its end. When it is back, the turn is interrupted and its credits are released."""
    monkeypatch.setattr("openapi_server.engine.turn_lifecycle.SETTLE_RETRY_DELAYS_S", (0, 0))
    stores: list[UnreliableStore] = []

    def wrap(store: Store) -> Store:
        stores.append(UnreliableStore(store))
        return stores[0]  # type: ignore[return-value]

    async with open_paid_talk(open_zoo, wrap=wrap, LEASE=0.3) as talk:
        (store,) = stores
        stream = await talk.begin("one")
        turn_id = await talk.get_turn_id()
        if is_deleted:
            await store.delete_session(talk.session_id)
        store.is_away = True
        talk.answers.finish("one")
        assert get_last_event(await stream).data["error"] == "store_unavailable"
        store.is_away = False

        async with asyncio.timeout(WAIT_S):
            while await store.list_running_turns():  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.005)
        assert await talk.count_charged() == 0
        assert (await talk.client.get(f"/convo_turn/{turn_id}")).status_code == (404 if is_deleted else 200)


@pytest.mark.parametrize(("price", "credits", "tokens"), [(1, 3, 3), (1, 10, 4), (5, 12, 3), (5, 3, 1)])
async def test_the_tokens_that_are_told_are_those_that_were_charged(
    open_zoo: OpensZoo, price: int, credits: int, tokens: int
) -> None:
    """A reply of four tokens for a balance that pays for less: stream, JSON, confirmation and usage say the same."""
    zoo = await open_zoo(Says(reply_end=ReplyEnd(usage=Usage(7, 4))), credits_per_token=price)
    told: list[int] = []
    for operation in ("stream", "messages"):
        client = await log_in_client(zoo, "user1", credits)
        session_id = (await client.post("/chat/sessions", json={})).json()["sessionId"]
        answer = await client.post(f"/chat/sessions/{session_id}/{operation}", json={"message": "Hello!"})
        done = answer.json() if operation == "messages" else get_last_event(answer).data
        body = {"completeResponse": "", "streamingSessionId": done["streamingSessionId"], "tokensUsed": 4}
        confirmed = await client.post(f"/chat/sessions/{session_id}/update-stream", json=body)
        told += [done["tokensUsed"], confirmed.json()["tokensUsed"]]
    usage = (await client.get("/usage/stats")).json()["total"]

    assert told == [tokens] * 4
    assert (usage["turns"], usage["tokens"]) == (2, 2 * tokens)
