"""The turn engine: a turn starts once, ends once, and does not depend on any connection."""

from __future__ import annotations

import asyncio

import pytest

from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.models.errors import AnimalMismatch, Draining, SessionNotFound, TurnNotFound
from openapi_server.models.turn import FinishReason, Outcome, TurnStatus
from openapi_server.models.turn_events import Chunk, Completed, Failed, fold
from openapi_server.protocols import Provider
from tests.engine.bench import EngineBench, make_request
from tests.support.fakes import Blocks, Fails, Says, Waits, make_lion


async def test_a_turn_is_settled_once_and_before_it_is_reported_as_complete() -> None:
    """Readers get the reply that is stored."""
    bench = EngineBench(Says("Roar! ", "Hi."))

    started = await bench.engine.start_turn(make_request())
    entries = await bench.read_to_end(started.turn_id)

    ending = entries[-1].event
    assert isinstance(ending, Completed)
    assert ending.reply == "".join(entry.event.text for entry in entries if isinstance(entry.event, Chunk))
    assert [outcome.reply for outcome in bench.store.outcomes[started.turn_id]] == [ending.reply]
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


@pytest.mark.parametrize(
    "provider",
    [
        Fails(OSError("no upstream")),
        Fails(ValueError(), "Well, "),
        Fails(TimeoutError()),
        Says(""),
        Fails(RecursionError()),
    ],
)
async def test_a_broken_provider_still_ends_the_turn(provider: Provider) -> None:
    """Any crash becomes exactly one terminal event."""
    bench = EngineBench(provider)

    started = await bench.engine.start_turn(make_request())
    entries = await bench.read_to_end(started.turn_id)

    assert [entry.event.is_terminal for entry in entries].count(True) == 1
    assert isinstance(entries[-1].event, Failed)
    assert bench.store.outcomes[started.turn_id][0].status is TurnStatus.FAILED


async def test_many_readers_see_the_same_turn_from_wherever_they_join() -> None:
    """Each gets every entry behind its position once."""
    provider = Waits("a ", "b ", "c ")
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    early = asyncio.create_task(bench.read_to_end(started.turn_id))
    await provider.has_begun.wait()
    middle = asyncio.create_task(bench.read_to_end(started.turn_id))
    provider.go.set()
    late_entries = await early

    assert await middle == late_entries == await bench.read_to_end(started.turn_id)
    with await bench.engine.open_reader(started.turn_id, after=4) as reader:
        assert [entry.seq for entry in await reader.read(1)] == list(range(5, len(late_entries) + 1))


async def test_a_reader_that_leaves_does_not_stop_the_turn() -> None:
    """A disconnect is no stop. The number of readers decreases."""
    provider = Waits()
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    with await bench.engine.open_reader(started.turn_id) as reader:
        await reader.read(1)
        assert bench.engine.reader_count == 1
    assert bench.engine.reader_count == 0
    provider.go.set()

    assert isinstance((await bench.read_to_end(started.turn_id))[-1].event, Completed)


async def test_the_deadline_ends_a_turn_and_cancels_the_provider() -> None:
    """No request goes on for a turn that has ended."""
    provider = Waits()
    bench = EngineBench(provider, deadline_s=0.02)

    started = await bench.engine.start_turn(make_request())
    ending = (await bench.read_to_end(started.turn_id))[-1].event

    assert isinstance(ending, Failed)
    assert ending.problem.code == "turn_timeout"
    assert provider.was_closed


async def test_the_text_before_a_failure_is_stored() -> None:
    """The partial reply is stored with the failure."""
    bench = EngineBench(Fails(OSError(), "Well, "))

    started = await bench.engine.start_turn(make_request())
    await bench.read_to_end(started.turn_id)

    assert bench.store.outcomes[started.turn_id][0].reply == "Well, "


async def test_a_turn_that_another_process_settled_ends_as_that_one_settled_it() -> None:
    """The readers in this process get that end, and no other."""
    provider = Waits()
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    await provider.has_begun.wait()
    await bench.leases.settle_orphan(started.turn_id)

    provider.go.set()
    entries = await bench.read_to_end(started.turn_id)

    assert [entry.event.is_terminal for entry in entries].count(True) == 1
    assert isinstance(entries[-1].event, Failed)
    assert entries[-1].event.problem.code == "interrupted"


async def test_a_turn_whose_outcome_cannot_be_stored_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Completed` is never appended for a reply that is not stored."""
    monkeypatch.setattr("openapi_server.engine.turn_lifecycle.SETTLE_RETRY_DELAYS_S", (0, 0))
    bench = EngineBench(Says("Roar!"))
    bench.store.fails_to_settle = True

    started = await bench.engine.start_turn(make_request())
    ending = (await bench.read_to_end(started.turn_id))[-1].event

    assert isinstance(ending, Failed)
    assert ending.problem.code == "store_unavailable"


async def test_storing_the_outcome_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short failure of the store loses nothing."""
    monkeypatch.setattr("openapi_server.engine.turn_lifecycle.SETTLE_RETRY_DELAYS_S", (0, 0, 0))
    bench = EngineBench(Says("Roar!"))
    attempts = 0
    settle = bench.store.settle_turn

    async def flaky(turn_id: str, outcome: Outcome) -> Outcome | None:
        nonlocal attempts
        attempts += 1
        bench.store.fails_to_settle = attempts < 3
        return await settle(turn_id, outcome)

    monkeypatch.setattr(bench.store, "settle_turn", flaky)
    started = await bench.engine.start_turn(make_request())

    assert isinstance((await bench.read_to_end(started.turn_id))[-1].event, Completed)


async def test_an_unknown_session_and_a_foreign_animal_are_refused_before_anything_is_stored() -> None:
    """Nothing of a refused turn is stored."""
    bench = EngineBench(Says())
    started = await bench.engine.start_turn(make_request())
    await bench.read_to_end(started.turn_id)

    with pytest.raises(SessionNotFound):
        await bench.engine.start_turn(make_request(session_id="sess_unknown"))
    with pytest.raises(AnimalMismatch):
        await bench.engine.start_turn(TurnRequest(make_lion("tiger_001"), "Hi", session=SessionRef(started.session_id)))
    assert list(bench.store.turns) == [started.turn_id]


async def test_a_blocked_message_is_answered_with_the_safe_words() -> None:
    """The provider gets no prompt."""
    provider = Says("not this")
    bench = EngineBench(provider, moderator=Blocks("Please ask a grown-up."))

    started = await bench.engine.start_turn(make_request())
    ending = (await bench.read_to_end(started.turn_id))[-1].event

    assert isinstance(ending, Completed)
    assert (ending.reply, ending.finish_reason) == ("Please ask a grown-up.", FinishReason.BLOCKED)
    assert provider.prompts == []


async def test_closing_interrupts_running_turns_and_refuses_new_ones() -> None:
    """Every turn has an outcome when the server has stopped."""
    provider = Waits()
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    await provider.has_begun.wait()

    await bench.engine.close()

    ending = (await bench.read_to_end(started.turn_id))[-1].event
    assert isinstance(ending, Failed)
    assert ending.problem.code == "interrupted"
    with pytest.raises(Draining):
        await bench.engine.start_turn(make_request())


async def test_the_state_of_a_finished_log_is_the_terminal_event() -> None:
    """Polling shows what the last event says."""
    bench = EngineBench(Says("Roar!"))
    started = await bench.engine.start_turn(make_request())
    entries = await bench.read_to_end(started.turn_id)

    state = await bench.engine.get_state(started.turn_id)

    assert state == fold(entries)
    assert state is not None
    assert (state.status, state.reply, state.progress) == (TurnStatus.SUCCEEDED, "Roar!", 100)


async def test_an_unknown_turn_cannot_be_read() -> None:
    """A 404, not an empty stream."""
    with pytest.raises(TurnNotFound):
        await EngineBench(Says()).engine.open_reader("turn_unknown")


async def test_a_turn_is_stopped_some_time_after_its_last_reader_has_left() -> None:
    """Its partial reply is stored, with the status stopped."""
    provider = Waits()
    bench = EngineBench(provider, grace_s=0.02)
    started = await bench.engine.start_turn(make_request())
    with await bench.engine.open_reader(started.turn_id):
        await provider.has_begun.wait()

    ending = (await bench.read_log(started.turn_id))[-1].event

    assert isinstance(ending, Completed)
    assert (ending.reply, ending.finish_reason) == ("Ready, ", FinishReason.STOPPED)
    assert bench.store.outcomes[started.turn_id][0].status is TurnStatus.STOPPED


async def test_a_turn_goes_on_when_a_reader_comes_back_in_time() -> None:
    """The orphan timer is cleared."""
    provider = Waits()
    bench = EngineBench(provider, grace_s=0.05)
    started = await bench.engine.start_turn(make_request())
    with await bench.engine.open_reader(started.turn_id):
        await provider.has_begun.wait()
    reading = asyncio.create_task(bench.read_to_end(started.turn_id))
    await asyncio.sleep(0.1)
    provider.go.set()

    ending = (await reading)[-1].event

    assert isinstance(ending, Completed)
    assert ending.finish_reason is FinishReason.STOP


async def test_a_turn_that_never_had_a_reader_is_not_stopped() -> None:
    """It was started with `Prefer: respond-async`, and its client polls."""
    provider = Waits()
    bench = EngineBench(provider, grace_s=0)
    started = await bench.engine.start_turn(make_request())
    await provider.has_begun.wait()
    provider.go.set()

    assert isinstance((await bench.read_log(started.turn_id))[-1].event, Completed)


async def test_polling_restarts_the_orphan_timer() -> None:
    """The client still waits for the turn."""
    provider = Waits()
    bench = EngineBench(provider, grace_s=0.1)
    started = await bench.engine.start_turn(make_request())
    with await bench.engine.open_reader(started.turn_id):
        await provider.has_begun.wait()
    for _ in range(8):
        await asyncio.sleep(0.03)
        state = await bench.engine.get_state(started.turn_id)
        assert state is not None
        assert state.terminal_event is None
    await bench.engine.close()


async def test_a_stop_waits_for_the_end_and_happens_once() -> None:
    """However many requests come at the same time."""
    provider = Waits()
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    await provider.has_begun.wait()

    turns = await asyncio.gather(*(bench.engine.stop_turn(started.turn_id) for _ in range(10)))

    assert {turn.status for turn in turns} == {TurnStatus.STOPPED}
    assert len(bench.store.outcomes[started.turn_id]) == 1
    assert provider.was_closed


async def test_draining_lets_turns_finish() -> None:
    """Within the drain time."""
    provider = Waits()
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    await provider.has_begun.wait()
    draining = asyncio.create_task(bench.engine.drain())
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await bench.engine.start_turn(make_request())
    provider.go.set()
    await draining

    assert isinstance((await bench.read_to_end(started.turn_id))[-1].event, Completed)


async def test_half_a_character_from_a_provider_fails_the_turn() -> None:
    """A lone surrogate can be neither encoded nor stored. The readers get a terminal event."""
    bench = EngineBench(Says("Roar \ud83e"))

    started = await bench.engine.start_turn(make_request())
    ending = (await bench.read_to_end(started.turn_id))[-1].event

    assert isinstance(ending, Failed)
    assert ending.problem.code == "provider_failed"
