"""Leases: a turn of a dead process is settled as interrupted, one of a living process never."""

from __future__ import annotations

from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import TurnRecord, TurnStatus
from openapi_server.models.turn_events import Completed
from tests.engine.bench import EngineBench, make_request
from tests.support.fakes import Says, Waits


async def test_the_turn_of_a_dead_process_does_not_block_its_session() -> None:
    """The next request settles it as interrupted, and is accepted."""
    provider = Says("Roar!")
    bench = EngineBench(provider)
    now = bench.clock.now()
    orphan = TurnRecord(
        "turn_orphan",
        "sess_1",
        "lion_001",
        make_request().age_group,
        "Hi",
        "m",
        now,
        worker="here/1/older",
        lease_until=now,
    )
    bench.store.sessions["sess_1"] = SessionRecord("sess_1", "lion_001", None, now, now)
    bench.store.turns["turn_orphan"] = orphan

    started = await bench.engine.start_turn(make_request(session_id="sess_1"))
    await bench.read_to_end(started.turn_id)

    problem = bench.store.outcomes["turn_orphan"][0].problem
    assert problem is not None
    assert problem.code == "interrupted"


async def test_the_turn_of_a_process_on_another_host_is_settled_when_its_lease_expires() -> None:
    """Not earlier: whether that process lives is not known."""
    bench = EngineBench(Says())
    now = bench.clock.now()
    bench.store.turns["turn_far"] = TurnRecord(
        *("turn_far", "sess_1", "lion_001", make_request().age_group, "Hi", "m", now),
        worker="elsewhere/7/aaaa",
        lease_until=now + bench.leases.duration,
    )

    assert (await bench.engine.get_turn("turn_far")).status is TurnStatus.RUNNING
    bench.clock.advance(31)
    assert (await bench.engine.get_turn("turn_far")).status is TurnStatus.FAILED


async def test_a_clock_that_jumps_does_not_end_own_turns() -> None:
    """By an hour, in the middle of a turn: durations are monotonic, and own leases cannot expire."""
    provider = Waits()
    bench = EngineBench(provider)
    started = await bench.engine.start_turn(make_request())
    await provider.has_begun.wait()
    bench.clock.advance(3600)

    await bench.leases.settle_orphans()
    provider.go.set()

    assert isinstance((await bench.read_to_end(started.turn_id))[-1].event, Completed)
