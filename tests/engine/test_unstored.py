"""Better an answer without memory than none: where a question says so, the store may be away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.models.errors import ProviderFailed, StoreUnavailable
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import FinishReason
from openapi_server.models.turn_events import Completed, Entry, Failed
from tests.engine.support import EngineBench, make_request
from tests.support.fakes import Blocks, Fails, Says, Waits, make_lion

WITHOUT_MEMORY = "The store is unavailable: answering without memory"
NOT_KEPT = "The store is unavailable: the reply is not stored"


@pytest.fixture(autouse=True)
def no_waiting_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openapi_server.engine.turn_lifecycle.SETTLE_RETRY_DELAYS_S", (0, 0))


def make_device_request() -> TurnRequest:
    return TurnRequest(
        make_lion(),
        "Hello!",
        session=SessionRef("sess_1", is_client_chosen=True, handle="chat_kiosk-7"),
        is_storage_optional=True,
    )


async def run_turn(bench: EngineBench, question: TurnRequest) -> tuple[list[Entry], list[str]]:
    """The whole turn, and what was logged as a warning meanwhile."""
    with capture_logs() as lines:
        started = await bench.engine.start_turn(question)
        entries = await bench.read_to_end(started.turn_id)
    return entries, [line["event"] for line in lines if line["log_level"] == "warning"]


def assert_is_whole(entries: Sequence[Entry], reply: str = "Roar! I am a lion.") -> None:
    ending = entries[-1].event
    assert isinstance(ending, Completed)
    assert ending.reply == reply
    assert [entry.event.is_terminal for entry in entries].count(True) == 1
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


@pytest.mark.parametrize("method", ["session", "begin_turn"])
async def test_a_turn_that_cannot_be_kept_is_answered_all_the_same(method: str) -> None:
    """Nothing of it is in the store, nobody tries to settle it, and a log line says so."""
    bench = EngineBench(Says())
    bench.store.failing_methods = frozenset({method})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_whole(entries)
    assert warnings == [WITHOUT_MEMORY]
    assert (bench.store.turns, bench.store.outcomes) == ({}, {})
    assert bench.engine.running_count == 0


async def test_a_turn_that_cannot_remember_is_answered_and_kept() -> None:
    """The store went away only for a moment."""
    provider = Says()
    bench = EngineBench(provider)
    now = bench.clock.now()
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now, handle="chat_kiosk-7")
    bench.store.failing_methods = frozenset({"latest_turns"})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_whole(entries)
    assert warnings == [WITHOUT_MEMORY]
    assert provider.prompts[0].history == ()
    assert bench.store.outcomes[entries[0].turn_id][0].reply == "Roar! I am a lion."


async def test_a_reply_that_cannot_be_kept_is_complete() -> None:
    """The visitor has heard it whole; the log says that nobody else will."""
    bench = EngineBench(Says())
    bench.store.failing_methods = frozenset({"settle_turn"})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_whole(entries)
    assert warnings == [NOT_KEPT]


async def test_a_store_that_is_away_all_the_time_is_only_a_log_line() -> None:
    """Every method of it."""
    bench = EngineBench(Says())
    bench.store.failing_methods = frozenset({"session", "begin_turn", "latest_turns", "settle_turn"})

    entries, warnings = await run_turn(bench, make_device_request())

    assert_is_whole(entries)
    assert warnings == [WITHOUT_MEMORY]


async def test_without_a_store_the_rules_still_hold() -> None:
    """The moderator needs no memory."""
    bench = EngineBench(Says("not this"), moderator=Blocks("Better not."))
    bench.store.failing_methods = frozenset({"session"})

    entries, _ = await run_turn(bench, make_device_request())

    assert_is_whole(entries, "Better not.")
    ending = entries[-1].event
    assert isinstance(ending, Completed)
    assert ending.finish_reason is FinishReason.BLOCKED


async def test_without_a_store_a_broken_provider_still_ends_the_turn() -> None:
    """Readers are waiting, whoever keeps what they hear."""
    bench = EngineBench(Fails(ProviderFailed(), "Well, "))
    bench.store.failing_methods = frozenset({"session"})

    entries, _ = await run_turn(bench, make_device_request())

    ending = entries[-1].event
    assert isinstance(ending, Failed)
    assert ending.problem.code == "provider_failed"


async def test_without_a_store_a_turn_still_ends_when_its_reader_leaves() -> None:
    """It is stopped as any other: nobody listens to it any more."""
    provider = Waits()
    bench = EngineBench(provider, grace_s=0)
    bench.store.failing_methods = frozenset({"session"})
    started = await bench.engine.start_turn(make_device_request())
    with await bench.engine.open_reader(started.turn_id):
        await provider.has_begun.wait()

    assert_is_whole(await bench.read_log(started.turn_id), "Ready, ")
    assert provider.was_closed


@pytest.mark.parametrize("method", ["session", "begin_turn"])
async def test_other_questions_are_refused_before_anything_was_sent(method: str) -> None:
    """Their clients rely on what is kept."""
    bench = EngineBench(Says())
    now = bench.clock.now()
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now)
    bench.store.failing_methods = frozenset({method})
    with pytest.raises(StoreUnavailable):
        await bench.engine.start_turn(make_request("sess_1"))

    assert bench.engine.running_count == 0


@pytest.mark.parametrize("method", ["latest_turns", "settle_turn"])
async def test_other_turns_fail_when_the_store_goes_away(method: str) -> None:
    """ "Complete" is never said to them of a reply that is not kept, or that was said without memory."""
    bench = EngineBench(Says())
    now = bench.clock.now()
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now)
    bench.store.failing_methods = frozenset({method})

    entries, _ = await run_turn(bench, replace(make_device_request(), is_storage_optional=False))

    ending = entries[-1].event
    assert isinstance(ending, Failed)
    assert ending.problem.code == "store_unavailable"
