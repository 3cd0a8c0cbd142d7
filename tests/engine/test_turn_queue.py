"""A second message while a turn of its session runs: it is refused, waits in order of arrival, or interrupts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.engine import turn_engine, turn_queue
from openapi_server.engine.turn_engine import AcceptedTurn
from openapi_server.engine.turn_request import OnBusy, SessionRef, TurnRequest
from openapi_server.models.errors import Draining, InsufficientCredits, Problem, StoreUnavailable, TurnRunning
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import FinishReason, TurnRecord, TurnStatus
from openapi_server.models.turn_events import Completed, Entry, Failed, Started
from tests.engine.bench import DictStore, EngineBench
from tests.support.examples import make_turn
from tests.support.fakes import Answers, make_lion

SESSION_ID = "sess_1"


class QueueBench(EngineBench):
    """A bench with one session and a provider that answers when it is told to."""

    def __init__(self, *, store: DictStore | None = None, **limits: float) -> None:
        self.answers = Answers()
        super().__init__(self.answers, store=store, **limits)  # type: ignore[arg-type]
        now = self.clock.now()
        self.store.sessions[SESSION_ID] = SessionRecord(SESSION_ID, "lion_001", None, now, now)

    async def send(self, message: str, on_busy: OnBusy = OnBusy.REJECT, **more: bool) -> AcceptedTurn:
        request = TurnRequest(make_lion(), message, session=SessionRef(SESSION_ID), on_busy=on_busy)
        return await self.engine.start_turn(replace(request, **more))  # type: ignore[arg-type]

    async def begin(self, message: str) -> AcceptedTurn:
        """Start a turn, and return in the middle of its reply."""
        started = await self.send(message)
        await self.wait_until_begun(message)
        return started

    async def wait_until_begun(self, message: str) -> None:
        await asyncio.wait_for(self.answers.has_begun[message].wait(), 5)

    async def get_end(self, turn: AcceptedTurn) -> Completed | Failed:
        end = (await self.read_log(turn.turn_id))[-1].event
        assert isinstance(end, Completed | Failed)
        return end

    async def get_reply(self, turn: AcceptedTurn) -> str:
        end = await self.get_end(turn)
        assert isinstance(end, Completed)
        return end.reply

    async def get_problem(self, turn: AcceptedTurn) -> Problem:
        end = await self.get_end(turn)
        assert isinstance(end, Failed)
        return end.problem

    async def get_status(self, turn: AcceptedTurn) -> TurnStatus:
        return (await self.engine.get_turn(turn.turn_id)).status

    async def read_so_far(self, turn: AcceptedTurn) -> list[Entry]:
        return list(await self.log.list_entries(turn.turn_id) or ())


async def settle_loop() -> None:
    """Let whatever can happen now happen."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_message_waits_for_the_one_before_and_knows_what_was_said() -> None:
    """It is accepted at once, with a log; it begins when the other has ended, with the context that one left."""
    bench = QueueBench()
    first = await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)
    await settle_loop()

    assert await bench.get_status(second) is TurnStatus.QUEUED
    assert isinstance((await bench.read_so_far(second))[0].event, Started)
    assert (bench.engine.running_count, bench.engine.queued_count) == (1, 1)
    assert bench.answers.begun == ["one"]
    with await bench.engine.open_reader(second.turn_id) as reader:
        assert reader.is_queued

    bench.answers.finish("one", "two")
    assert [await bench.get_reply(turn) for turn in (first, second)] == ["To one", "To two"]
    assert bench.answers.histories["two"] == [("one", "To one")]
    assert (bench.engine.running_count, bench.engine.queued_count) == (0, 0)


async def test_messages_are_answered_in_the_order_of_their_arrival() -> None:
    """One after the other, and each knows all that came before it and nothing of what comes behind it."""
    bench = QueueBench()
    turns = [await bench.begin("0")]
    turns += [await bench.send(str(n), OnBusy.ENQUEUE) for n in range(1, 9)]
    bench.answers.finish(*(str(n) for n in reversed(range(9))))

    assert [await bench.get_reply(turn) for turn in turns] == [f"To {n}" for n in range(9)]
    assert bench.answers.begun == [str(n) for n in range(9)]
    assert bench.answers.histories["8"] == [(str(n), f"To {n}") for n in range(8)]


@pytest.mark.parametrize("depth", [0, 1, 8])
@pytest.mark.parametrize("on_busy", [OnBusy.ENQUEUE, OnBusy.INTERRUPT, OnBusy.INTERRUPT_UNREAD])
async def test_a_full_queue_refuses_and_names_the_running_turn(depth: int, on_busy: OnBusy) -> None:
    """What is refused interrupts nothing, and is not stored."""
    bench = QueueBench(queue_depth=depth)
    first = await bench.begin("one")
    for n in range(depth):
        await bench.send(str(n), OnBusy.ENQUEUE)
    with pytest.raises(TurnRunning) as refusal:
        await bench.send("late", on_busy)

    assert refusal.value.turn_id == first.turn_id
    assert await bench.get_status(first) is TurnStatus.RUNNING
    assert "late" not in [turn.message for turn in bench.store.turns.values()]
    await bench.engine.close()


async def test_a_message_that_waits_too_long_is_refused_and_stays_stored() -> None:
    """Its turn fails with the problem that a refusal has, and names the turn it waited for."""
    bench = QueueBench(queue_timeout_s=0.05)
    first = await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)

    problem = await bench.get_problem(second)
    assert (problem.status, problem.code, problem.turn_id) == (409, "turn_running", first.turn_id)
    assert await bench.get_status(second) is TurnStatus.FAILED
    assert await bench.get_status(first) is TurnStatus.RUNNING
    bench.answers.finish("one")
    assert await bench.get_reply(first) == "To one"
    assert bench.answers.begun == ["one"]


async def test_the_wait_is_not_part_of_the_deadline() -> None:
    """A turn has its whole time once it runs."""
    bench = QueueBench(deadline_s=0.2)
    await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)
    await bench.wait_until_begun("two")
    bench.answers.finish("two")

    assert await bench.get_reply(second) == "To two"


async def test_an_interrupted_turn_keeps_what_it_said() -> None:
    """Its readers are told that it was stopped, and the next message knows the words."""
    bench = QueueBench()
    first = await bench.begin("one")
    second = await bench.send("two", OnBusy.INTERRUPT)
    bench.answers.finish("two")

    end = await bench.get_end(first)
    assert isinstance(end, Completed)
    assert (end.reply, end.finish_reason) == ("To ", FinishReason.STOPPED)
    assert await bench.get_reply(second) == "To two"
    assert bench.answers.histories["two"] == [("one", "To ")]


async def test_an_interruption_stops_the_running_turn_only() -> None:
    """Those that wait are answered before it: nobody's message is lost."""
    bench = QueueBench()
    first = await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)
    third = await bench.send("three", OnBusy.INTERRUPT)
    await bench.wait_until_begun("two")
    assert await bench.get_status(third) is TurnStatus.QUEUED
    bench.answers.finish("two", "three")

    assert [await bench.get_reply(turn) for turn in (first, second, third)] == ["To ", "To two", "To three"]
    assert bench.answers.histories["three"] == [("one", "To "), ("two", "To two")]


async def test_two_interruptions_at_once_stop_one_turn() -> None:
    """Both messages are answered, in order."""
    bench = QueueBench()
    first = await bench.begin("one")
    second, third = await asyncio.gather(*(bench.send(name, OnBusy.INTERRUPT) for name in ("two", "three")))
    bench.answers.finish("two", "three")

    assert [await bench.get_reply(turn) for turn in (first, second, third)] == ["To ", "To two", "To three"]
    assert len(bench.store.outcomes[first.turn_id]) == 1


async def test_an_interruption_after_an_interruption_stops_that_turn() -> None:
    """When it has begun."""
    bench = QueueBench()
    await bench.begin("one")
    second = await bench.send("two", OnBusy.INTERRUPT)
    await bench.wait_until_begun("two")
    third = await bench.send("three", OnBusy.INTERRUPT)
    bench.answers.finish("three")

    assert [await bench.get_reply(turn) for turn in (second, third)] == ["To ", "To three"]


async def test_a_turn_that_nobody_reads_any_more_is_interrupted_by_default() -> None:
    """The default of front ends that know no refusal: they reloaded the page, and ask anew."""
    bench = QueueBench()
    first = await bench.begin("one")
    with await bench.engine.open_reader(first.turn_id):
        pass
    second = await bench.send("two", OnBusy.INTERRUPT_UNREAD)
    bench.answers.finish("two")

    assert [await bench.get_reply(turn) for turn in (first, second)] == ["To ", "To two"]


@pytest.mark.parametrize("has_reader", [True, False], ids=["read", "polled"])
async def test_a_turn_that_somebody_waits_for_is_not_interrupted_by_default(has_reader: bool) -> None:
    """Whoever reads it, or polls for it and never read, gets the whole reply."""
    bench = QueueBench()
    first = await bench.begin("one")
    reading = asyncio.create_task(bench.read_to_end(first.turn_id)) if has_reader else None
    await settle_loop()
    second = await bench.send("two", OnBusy.INTERRUPT_UNREAD)
    bench.answers.finish("one", "two")

    assert [await bench.get_reply(turn) for turn in (first, second)] == ["To one", "To two"]
    if reading is not None:
        await reading


async def test_a_reader_that_comes_back_keeps_the_turn() -> None:
    """It resumed before the next message came."""
    bench = QueueBench()
    first = await bench.begin("one")
    with await bench.engine.open_reader(first.turn_id):
        pass
    with await bench.engine.open_reader(first.turn_id):
        second = await bench.send("two", OnBusy.INTERRUPT_UNREAD)
        bench.answers.finish("one", "two")
        assert await bench.get_reply(first) == "To one"
    assert await bench.get_reply(second) == "To two"


async def test_a_queued_turn_can_be_stopped() -> None:
    """At once, with no words; those behind it move up, and do not hear of it as the past."""
    bench = QueueBench()
    first = await bench.begin("one")
    second, third = [await bench.send(name, OnBusy.ENQUEUE) for name in ("two", "three")]
    stopped = await asyncio.wait_for(bench.engine.stop_turn(second.turn_id), 5)
    assert stopped.status is TurnStatus.STOPPED
    bench.answers.finish("one", "three")

    assert [await bench.get_reply(turn) for turn in (first, second, third)] == ["To one", "", "To three"]
    assert bench.answers.begun == ["one", "three"]


async def test_a_stop_of_the_running_turn_lets_the_next_one_run() -> None:
    """One stop, one turn."""
    bench = QueueBench()
    first = await bench.begin("one")
    second, third = [await bench.send(name, OnBusy.ENQUEUE) for name in ("two", "three")]
    await bench.engine.stop_turn(first.turn_id)
    await bench.wait_until_begun("two")

    assert [await bench.get_status(turn) for turn in (first, second, third)] == [
        TurnStatus.STOPPED,
        TurnStatus.RUNNING,
        TurnStatus.QUEUED,
    ]
    await bench.engine.close()


@pytest.mark.parametrize("ends", ["fails", "deleted", "deadline"])
async def test_the_next_turn_runs_however_the_one_before_ended(ends: str) -> None:
    """Whatever ended it."""
    bench = QueueBench(deadline_s=0.1 if ends == "deadline" else 10)
    first = await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)
    if ends == "fails":
        bench.engine._running[first.turn_id].cancel(StoreUnavailable())
    elif ends == "deleted":
        await bench.engine.delete_turns([first.turn_id])
    bench.answers.finish("two")

    assert await bench.get_reply(second) == "To two"


async def test_a_client_that_leaves_while_its_turn_waits_ends_it() -> None:
    """By the rules for every other turn: at once where the request says so. Nobody waits for it any more."""
    bench = QueueBench()
    await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE, is_cancelled_on_disconnect=True)
    third = await bench.send("three", OnBusy.ENQUEUE)
    with await bench.engine.open_reader(second.turn_id):
        pass

    assert await bench.get_reply(second) == ""
    assert await bench.get_status(second) is TurnStatus.STOPPED
    bench.answers.finish("one", "three")
    assert await bench.get_reply(third) == "To three"
    assert bench.answers.begun == ["one", "three"]


async def test_a_client_that_leaves_a_waiting_turn_may_come_back() -> None:
    """Within the grace period; the turn keeps its place, and the reader gets every event once."""
    bench = QueueBench(grace_s=30)
    await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)
    with await bench.engine.open_reader(second.turn_id) as reader:
        seen = list(await reader.read(0))
    reading = await bench.engine.open_reader(second.turn_id, after=seen[-1].seq)
    bench.answers.finish("one", "two")
    with reading:
        while not reading.is_over:
            seen += await reading.read(5)

    assert seen == await bench.read_so_far(second)
    assert isinstance(seen[-1].event, Completed)


async def test_a_deleted_session_ends_those_that_wait() -> None:
    """None of them runs after that."""
    bench = QueueBench()
    turns = [await bench.begin("one"), *[await bench.send(name, OnBusy.ENQUEUE) for name in ("two", "three")]]
    tails = [await bench.log.open_tail(turn.turn_id) for turn in turns]
    await asyncio.wait_for(bench.engine.delete_turns([turn.turn_id for turn in turns]), 5)

    for tail in tails:
        assert tail is not None
        end = (await tail.read(5))[-1].event
        assert isinstance(end, Failed)
        assert end.problem.code == "session_deleted"
    assert bench.answers.begun == ["one"]
    assert bench.engine.queued_count == bench.engine.running_count == 0


async def test_a_drain_ends_those_that_wait_at_once_and_lets_the_running_one_finish() -> None:
    """Their clients are told to ask again; new ones are refused."""
    bench = QueueBench()
    first = await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)
    draining = asyncio.create_task(bench.engine.drain())
    problem = await bench.get_problem(second)
    assert (problem.status, problem.code, problem.retryable) == (503, "draining", True)
    with pytest.raises(Draining):
        await bench.send("three", OnBusy.ENQUEUE)
    bench.answers.finish("one", "two")
    await draining

    assert await bench.get_reply(first) == "To one"
    assert bench.answers.begun == ["one"]


async def test_closing_settles_those_that_wait() -> None:
    """No turn is left without an end."""
    bench = QueueBench()
    await bench.begin("one")
    for n in range(8):
        await bench.send(str(n), OnBusy.ENQUEUE)
    await asyncio.wait_for(bench.engine.close(), 5)

    assert set(bench.store.outcomes) == set(bench.store.turns)
    assert bench.engine.queued_count == bench.engine.running_count == 0


async def test_a_refusal_is_the_default() -> None:
    """Also between two turns, while others wait."""
    bench = QueueBench()
    first = await bench.begin("one")
    await bench.send("two", OnBusy.ENQUEUE)
    for _ in range(2):
        with pytest.raises(TurnRunning) as refusal:
            await bench.send("three")
        assert refusal.value.turn_id == first.turn_id
    await bench.engine.close()


@pytest.mark.parametrize("on_busy", list(OnBusy))
async def test_of_fifty_at_once_each_is_answered_or_refused(on_busy: OnBusy, monkeypatch: pytest.MonkeyPatch) -> None:
    """One runs at a time, none is lost, none is stored that was refused, and each ends once."""
    monkeypatch.setattr(turn_engine, "ENDING_TURN_WAIT_S", 0.01)
    bench = QueueBench()
    names = [str(n) for n in range(50)]
    bench.answers.finish(*names[1:])
    results = await asyncio.gather(*(bench.send(name, on_busy) for name in names), return_exceptions=True)
    bench.answers.finish(*names)
    accepted = [result for result in results if isinstance(result, AcceptedTurn)]
    ends = [await bench.get_end(turn) for turn in accepted]

    assert all(isinstance(result, AcceptedTurn | TurnRunning) for result in results)
    assert all(isinstance(end, Completed) for end in ends)
    assert len(accepted) == (1 if on_busy is OnBusy.REJECT else 9)
    assert [turn.turn_id for turn in accepted] == list(bench.store.turns)
    assert all(len(bench.store.outcomes[turn.turn_id]) == 1 for turn in accepted)
    in_order = [turn.message for turn in bench.store.turns.values()]
    # One that was interrupted before it had begun never does.
    assert bench.answers.begun == [name for name in in_order if name in bench.answers.begun]
    assert len(bench.answers.begun) >= len(accepted) - 1


class PaidStore(DictStore):
    """A store in which nobody has credits left when a queued turn is to run."""

    async def start_queued_turn(self, turn_id: str, at: object, charge: object = None) -> str | None:
        raise InsufficientCredits


async def test_a_turn_without_credits_fails_when_it_is_to_run() -> None:
    """With the problem that a refusal would have had."""
    bench = QueueBench(store=PaidStore())
    await bench.begin("one")
    second = await bench.send("two", OnBusy.ENQUEUE)

    assert (await bench.get_problem(second)).code == "insufficient_credits"
    assert await bench.get_status(second) is TurnStatus.FAILED
    await bench.engine.close()


@pytest.mark.parametrize("is_storage_optional", [True, False])
async def test_a_waiting_turn_while_the_store_is_away(is_storage_optional: bool) -> None:
    """It fails, unless it may be answered without memory."""
    bench = QueueBench()
    await bench.begin("one")
    bench.store.failing_methods = frozenset({"start_queued_turn"})
    second = await bench.send("two", OnBusy.ENQUEUE, is_storage_optional=is_storage_optional)
    bench.answers.finish("two")

    if is_storage_optional:
        assert await bench.get_reply(second) == "To two"
    else:
        assert (await bench.get_problem(second)).code == "store_unavailable"
    await bench.engine.close()


def add_turn_of_another_process(bench: QueueBench) -> TurnRecord:
    now = bench.clock.now()
    until = now + bench.leases.duration
    there = replace(make_turn("turn_there", SESSION_ID, at=now), worker="there/1/bbbb", lease_until=until)
    bench.store.turns[there.turn_id] = there
    return there


@pytest.mark.parametrize("on_busy", [OnBusy.ENQUEUE, OnBusy.INTERRUPT, OnBusy.INTERRUPT_UNREAD])
async def test_a_turn_of_another_process_is_waited_for(on_busy: OnBusy, monkeypatch: pytest.MonkeyPatch) -> None:
    """By asking the store. It cannot be interrupted from here."""
    monkeypatch.setattr(turn_queue, "POLL_S", 0.01)
    bench = QueueBench()
    there = add_turn_of_another_process(bench)
    second = await bench.send("two", on_busy)
    bench.answers.finish("two")
    await settle_loop()
    assert await bench.get_status(second) is TurnStatus.QUEUED
    assert there.turn_id not in bench.store.outcomes

    await bench.leases.settle_orphan(there.turn_id)
    assert await asyncio.wait_for(bench.get_reply(second), 5) == "To two"


# The events, in any order. A number selects a message that was accepted.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(OnBusy)),
        st.tuples(st.sampled_from(["finish", "stop", "leave", "lease lost"]), st.integers(0, 20)),
    ),
    max_size=24,
)


async def run_events(bench: QueueBench, events: list[tuple[str, Any]]) -> list[AcceptedTurn]:
    """Run the session through the events, to its end. Returns the turns in the order in which they were accepted."""
    turns = [await bench.begin("0")]
    for name, value in events:
        turn = turns[value % len(turns)] if isinstance(value, int) else turns[0]
        match name:
            case "send":
                with suppress(TurnRunning):
                    turns.append(await bench.send(str(len(turns)), value))
            case "finish":
                bench.answers.finish(str(turns.index(turn)))
            case "stop":
                await asyncio.wait_for(bench.engine.stop_turn(turn.turn_id), 5)
            case "leave":
                (await bench.engine.open_reader(turn.turn_id)).close()
            case "lease lost":
                bench.engine._on_lease_lost(turn.turn_id)
        await settle_loop()
        assert bench.engine.running_count <= 1
        assert sum(turn.status is TurnStatus.RUNNING for turn in await list_turns(bench)) <= 1
    bench.answers.finish(*(str(n) for n in range(len(turns))))
    for turn in turns:
        await asyncio.wait_for(bench.get_end(turn), 5)
    return turns


async def list_turns(bench: QueueBench) -> list[TurnRecord]:
    return await bench.store.list_latest_turns(SESSION_ID, 100)


@settings(max_examples=100, deadline=None)
@given(events=EVENTS)
def test_whatever_happens_each_message_ends_once_and_in_its_place(events: list[tuple[str, Any]]) -> None:
    """One turn runs at a time, in the order of arrival, with what came before as its context; none is left over."""

    async def scenario() -> tuple[QueueBench, list[AcceptedTurn]]:
        bench = QueueBench(grace_s=60)
        async with asyncio.timeout(20):
            turns = await run_events(bench, events)
        return bench, turns

    with mock.patch.object(turn_engine, "ENDING_TURN_WAIT_S", 0.0):
        bench, turns = asyncio.run(scenario())
    assert bench.engine.running_count == bench.engine.queued_count == 0
    assert [turn.turn_id for turn in turns] == list(bench.store.turns)
    assert all(len(bench.store.outcomes[turn.turn_id]) == 1 for turn in turns)
    assert [int(name) for name in bench.answers.begun] == sorted(int(name) for name in bench.answers.begun)
    for name, history in bench.answers.histories.items():
        assert [message for message, _ in history] == [str(n) for n in range(int(name))]
