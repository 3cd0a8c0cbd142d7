"""How turns start and end: the next turn of a session, usage and credits, and turns without a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from openapi_server.engine import turn_engine
from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.models.credits import Charge, TokenPrice
from openapi_server.models.errors import ProviderFailed, StoreUnavailable, TurnRunning
from openapi_server.models.prompt import Prompt
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import FinishReason, Outcome, TurnStatus, Usage
from openapi_server.models.turn_events import Completed, Entry, Failed
from openapi_server.protocols import ReplyEnd, WholeReply
from tests.engine.bench import DictStore, EngineBench, make_request
from tests.support.fakes import Blocks, Fails, Says, SingleModelProvider, Waits, make_lion


class SlowStore(DictStore):
    """A store in which settling a turn waits until `may_settle` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.may_settle = asyncio.Event()
        self.is_settling = asyncio.Event()

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> Outcome | None:
        self.is_settling.set()
        await self.may_settle.wait()
        return await super().settle_turn(turn_id, outcome)


class WaitsOnce(SingleModelProvider):
    """A provider whose first reply does not end by itself; the next ones do."""

    model = "fake-1"

    def __init__(self) -> None:
        self.first: Waits | None = Waits()
        self.has_begun = self.first.has_begun

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        provider = self.first or Says()
        self.first = None
        return provider.stream_reply(prompt)


async def start_turn(bench: EngineBench, request: TurnRequest | None = None) -> AcceptedTurn:
    """Start a turn, and return in the middle of its reply."""
    started = await bench.engine.start_turn(request or make_request())
    assert isinstance(bench.provider, WaitsOnce)
    await bench.provider.has_begun.wait()
    return started


def make_cancelled_request() -> TurnRequest:
    """A request of a client that stops a turn by disconnecting."""
    return replace(make_request(), is_cancelled_on_disconnect=True)


async def test_a_request_waits_for_a_turn_that_is_being_stopped() -> None:
    """It is accepted once the stopped turn is settled, not earlier. Both turns are stored."""
    store = SlowStore()
    bench = EngineBench(WaitsOnce(), store=store)
    first = await start_turn(bench)
    stop_task = asyncio.create_task(bench.engine.stop_turn(first.turn_id))
    await store.is_settling.wait()
    start_task = asyncio.create_task(bench.engine.start_turn(make_request(first.session_id)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not start_task.done()

    store.may_settle.set()
    second = await asyncio.wait_for(start_task, 5)
    await bench.read_to_end(second.turn_id)
    assert (await stop_task).status is TurnStatus.STOPPED
    assert [store.outcomes[turn.turn_id][0].status for turn in (first, second)] == [
        TurnStatus.STOPPED,
        TurnStatus.SUCCEEDED,
    ]


async def test_a_request_waits_for_a_turn_that_ends_with_its_reader() -> None:
    """Even in the moment of the disconnect, before the turn is cancelled."""
    bench = EngineBench(WaitsOnce())
    first = await start_turn(bench, make_cancelled_request())
    with await bench.engine.open_reader(first.turn_id):
        pass
    second = await bench.engine.start_turn(make_request(first.session_id))

    ending = (await bench.read_to_end(second.turn_id))[-1].event
    assert isinstance(ending, Completed)
    assert bench.store.outcomes[first.turn_id][0].status is TurnStatus.STOPPED


async def test_a_request_is_refused_while_a_turn_goes_on_without_its_reader() -> None:
    """The reader may come back: a disconnect is no stop. The error names the turn."""
    bench = EngineBench(WaitsOnce(), grace_s=30)
    first = await start_turn(bench)
    with await bench.engine.open_reader(first.turn_id):
        pass
    with pytest.raises(TurnRunning) as refusal:
        await asyncio.wait_for(
            bench.engine.start_turn(make_request(first.session_id)), turn_engine.ENDING_TURN_WAIT_S / 2
        )

    assert refusal.value.turn_id == first.turn_id
    assert first.turn_id not in bench.store.outcomes
    await bench.engine.close()


async def test_a_request_is_refused_while_the_turn_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a disconnect would stop the turn."""
    monkeypatch.setattr(turn_engine, "ENDING_TURN_WAIT_S", 0.01)
    bench = EngineBench(WaitsOnce())
    first = await start_turn(bench, make_cancelled_request())
    with await bench.engine.open_reader(first.turn_id):
        with pytest.raises(TurnRunning):
            await bench.engine.start_turn(make_request(first.session_id))
        assert first.turn_id not in bench.store.outcomes


async def test_a_stop_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets 409 and tries again; the stop goes on."""
    monkeypatch.setattr(turn_engine, "ENDING_TURN_WAIT_S", 0.01)
    store = SlowStore()
    bench = EngineBench(WaitsOnce(), store=store)
    first = await start_turn(bench)
    stop_task = asyncio.create_task(bench.engine.stop_turn(first.turn_id))
    await store.is_settling.wait()
    with pytest.raises(TurnRunning):
        await bench.engine.start_turn(make_request(first.session_id))

    store.may_settle.set()
    assert (await stop_task).status is TurnStatus.STOPPED


async def test_of_many_requests_after_an_abort_one_is_accepted() -> None:
    """All of them waited for the same turn; the store accepts one."""
    bench = EngineBench(WaitsOnce())
    first = await start_turn(bench, make_cancelled_request())
    with await bench.engine.open_reader(first.turn_id):
        pass
    requests = [bench.engine.start_turn(make_request(first.session_id)) for _ in range(10)]
    results = await asyncio.gather(*requests, return_exceptions=True)

    assert sum(isinstance(result, AcceptedTurn) for result in results) == 1
    assert sum(isinstance(result, TurnRunning) for result in results) == 9
    await bench.engine.close()


@pytest.mark.parametrize(("price", "credits_used"), [(None, 0), (1, 1), (7, 7)])
async def test_a_stopped_turn_is_charged_by_the_words_of_its_reply(price: int | None, credits_used: int) -> None:
    """Providers report no usage for a reply that they did not finish."""
    bench = EngineBench(WaitsOnce())
    charge = Charge("ben", 500, TokenPrice(price)) if price else None
    started = await start_turn(bench, replace(make_request(), charge=charge))
    await bench.engine.stop_turn(started.turn_id)

    ending = (await bench.read_to_end(started.turn_id))[-1].event
    assert isinstance(ending, Completed)
    assert (ending.reply, ending.finish_reason) == ("Ready, ", FinishReason.STOPPED)
    outcome = bench.store.outcomes[started.turn_id][0]
    assert ending.usage == outcome.usage == Usage(0, 1)
    assert outcome.credits_used == credits_used


@pytest.mark.parametrize(
    ("provider", "price", "tokens", "credits_used"),
    [
        (Says(), TokenPrice(2), 3, 6),
        (Says(), TokenPrice(2, 1), 6, 9),
        (Says("I am ", "a lion."), TokenPrice(1, 5), 5, 17),
        (Says("I am a ", "lion.", reply_end=ReplyEnd()), TokenPrice(3), 4, 12),
        (Says("I am a ", "lion.", reply_end=ReplyEnd(usage=Usage(9, 0))), TokenPrice(3, 1), 13, 21),
        (Fails(OSError(), "Well, "), TokenPrice(2, 1), None, 0),
    ],
    ids=["reply", "reply and prompt", "dear prompt", "no figures", "no figures of the reply", "fails"],
)
async def test_a_turn_is_charged_for_its_tokens_and_a_failed_one_is_free(
    provider: Says | Fails, price: TokenPrice, tokens: int | None, credits_used: int
) -> None:
    """Those of the reply, and of the prompt where prompts have a price; words where the provider does not count."""
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(replace(make_request(), charge=Charge("ben", 500, price)))
    ending = (await bench.read_to_end(started.turn_id))[-1].event

    outcome = bench.store.outcomes[started.turn_id][0]
    assert (outcome.tokens_charged, outcome.credits_used) == (tokens, credits_used)
    if isinstance(ending, Completed):
        assert ending.tokens_charged == tokens


NO_MEMORY_WARNING = "The store is unavailable: answering without memory"
NOT_STORED_WARNING = "The store is unavailable: the reply is not stored"


@pytest.fixture(autouse=True)
def settle_without_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openapi_server.engine.turn_lifecycle.SETTLE_RETRY_DELAYS_S", (0, 0))


def make_device_request() -> TurnRequest:
    return TurnRequest(
        make_lion(),
        "Hello!",
        session=SessionRef("sess_1", is_client_chosen=True, handle="chat_kiosk-7"),
        is_storage_optional=True,
    )


async def run_turn(bench: EngineBench, request: TurnRequest) -> tuple[list[Entry], list[str]]:
    """All entries of the turn, and the warnings logged meanwhile."""
    with capture_logs() as lines:
        started = await bench.engine.start_turn(request)
        entries = await bench.read_to_end(started.turn_id)
    return entries, [line["event"] for line in lines if line["log_level"] == "warning"]


def assert_is_complete(entries: Sequence[Entry], reply: str = "Roar! I am a lion.") -> None:
    ending = entries[-1].event
    assert isinstance(ending, Completed)
    assert ending.reply == reply
    assert [entry.event.is_terminal for entry in entries].count(True) == 1
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


@pytest.mark.parametrize("method", ["get_session", "begin_turn"])
async def test_a_turn_that_cannot_be_stored_is_answered(method: str) -> None:
    """Nothing of it is in the store, and a warning is logged."""
    bench = EngineBench(Says())
    bench.store.failing_methods = frozenset({method})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_complete(entries)
    assert warnings == [NO_MEMORY_WARNING]
    assert (bench.store.turns, bench.store.outcomes) == ({}, {})
    assert bench.engine.running_count == 0


async def test_a_turn_whose_history_cannot_be_loaded_is_answered_and_stored() -> None:
    """The store was unavailable for a moment only."""
    provider = Says()
    bench = EngineBench(provider)
    now = bench.clock.now()
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now, handle="chat_kiosk-7")
    bench.store.failing_methods = frozenset({"list_latest_turns"})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_complete(entries)
    assert warnings == [NO_MEMORY_WARNING]
    assert provider.prompts[0].history == ()
    assert bench.store.outcomes[entries[0].turn_id][0].reply == "Roar! I am a lion."


async def test_a_reply_that_cannot_be_stored_is_complete() -> None:
    """The visitor gets it all, and a warning is logged."""
    bench = EngineBench(Says())
    bench.store.failing_methods = frozenset({"settle_turn"})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_complete(entries)
    assert warnings == [NOT_STORED_WARNING]


async def test_an_unavailable_store_is_logged_once() -> None:
    """When every method of it raises."""
    bench = EngineBench(Says())
    bench.store.failing_methods = frozenset({"get_session", "begin_turn", "list_latest_turns", "settle_turn"})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_complete(entries)
    assert warnings == [NO_MEMORY_WARNING]


async def test_a_turn_without_a_store_goes_on_when_the_store_is_back() -> None:
    """It never had a lease, so it has lost none."""
    provider = Waits()
    bench = EngineBench(provider, lease_s=0.03)
    await bench.engine.open()
    bench.store.failing_methods = frozenset({"begin_turn"})
    started = await bench.engine.start_turn(make_device_request())
    await provider.has_begun.wait()
    bench.store.failing_methods = frozenset()
    await asyncio.wait_for(bench.store.was_renewed.wait(), 5)
    provider.go.set()

    assert_is_complete(await bench.read_to_end(started.turn_id), "Ready, go.")
    await bench.engine.close()


async def test_without_a_store_the_rules_still_hold() -> None:
    """Moderation needs no store."""
    bench = EngineBench(Says("not this"), moderator=Blocks("Better not."))
    bench.store.failing_methods = frozenset({"get_session"})

    entries, _ = await run_turn(bench, make_device_request())

    assert_is_complete(entries, "Better not.")
    ending = entries[-1].event
    assert isinstance(ending, Completed)
    assert ending.finish_reason is FinishReason.BLOCKED


async def test_without_a_store_a_broken_provider_still_ends_the_turn() -> None:
    """With a problem, as any other turn."""
    bench = EngineBench(Fails(ProviderFailed(), "Well, "))
    bench.store.failing_methods = frozenset({"get_session"})

    entries, _ = await run_turn(bench, make_device_request())

    ending = entries[-1].event
    assert isinstance(ending, Failed)
    assert ending.problem.code == "provider_failed"


async def test_without_a_store_a_turn_still_ends_when_its_reader_leaves() -> None:
    """It is stopped as any other."""
    provider = Waits()
    bench = EngineBench(provider, grace_s=0)
    bench.store.failing_methods = frozenset({"get_session"})
    started = await bench.engine.start_turn(make_device_request())
    with await bench.engine.open_reader(started.turn_id):
        await provider.has_begun.wait()

    assert_is_complete(await bench.read_log(started.turn_id), "Ready, ")
    assert provider.was_closed


@pytest.mark.parametrize("method", ["get_session", "begin_turn"])
async def test_other_requests_are_refused(method: str) -> None:
    """Where storage is not optional, before anything is sent."""
    bench = EngineBench(Says())
    now = bench.clock.now()
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now)
    bench.store.failing_methods = frozenset({method})
    with pytest.raises(StoreUnavailable):
        await bench.engine.start_turn(make_request("sess_1"))

    assert bench.engine.running_count == 0


@pytest.mark.parametrize("method", ["list_latest_turns", "settle_turn"])
async def test_other_turns_fail_when_the_store_becomes_unavailable(method: str) -> None:
    """Their replies are never complete without their history, or without being stored."""
    bench = EngineBench(Says())
    now = bench.clock.now()
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now)
    bench.store.failing_methods = frozenset({method})

    entries, _ = await run_turn(bench, replace(make_device_request(), is_storage_optional=False))

    ending = entries[-1].event
    assert isinstance(ending, Failed)
    assert ending.problem.code == "store_unavailable"
