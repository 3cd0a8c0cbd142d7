"""What every event log promises, whatever it is kept in.

A new implementation becomes a parameter of `open_log` and passes unchanged. `FakeClock` decides what is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from openapi_server.event_logs.memory import MemoryEventLog, MemoryTail
from openapi_server.event_logs.redis.connections import Connections
from openapi_server.event_logs.redis.log import RedisEventLog, open_redis_log
from openapi_server.models.ids import make_id
from openapi_server.models.turn_events import Chunk, Entry, Failed, TurnEvent
from openapi_server.protocols import EntryAhead, EventLog, LogClosed, Tail
from openapi_server.telemetry.metrics import MeasuredEventLog, PrometheusMetrics
from tests.support.examples import COMPLETED, EVENTS, FAILED, NOON, STARTED, TURN_ID, endings, middles
from tests.support.fakes import FakeClock

OTHER_ID = "turn_of_somebody_else"
WINDOW_S = 600.0
AT_ONCE_S = 0.0
PATIENCE_S = 2.0

OpensLog = Callable[..., AbstractAsyncContextManager[EventLog]]


@asynccontextmanager
async def memory_log(
    clock: FakeClock, *, replay_window_s: float = WINDOW_S, max_turns: int = 1000
) -> AsyncIterator[EventLog]:
    yield MemoryEventLog(clock, replay_window_s=replay_window_s, max_turns=max_turns)


@asynccontextmanager
async def measured_log(clock: FakeClock, **limits: Any) -> AsyncIterator[EventLog]:
    async with memory_log(clock, **limits) as log:
        yield MeasuredEventLog(log, PrometheusMetrics("offline", "offline-keeper-1"))


@asynccontextmanager
async def redis_log(
    url: str, clock: FakeClock, *, prefix: str | None = None, worker: str = "here/1/a", max_turns: int = 1000
) -> AsyncIterator[RedisEventLog]:
    """Under a prefix of its own, so that the turns of an earlier test are not there."""
    connections = Connections(url)
    prefix = prefix or make_id("test")
    log = RedisEventLog(
        connections, clock, worker, replay_window_s=WINDOW_S, max_turns=max_turns, gather_s=0, prefix=prefix
    )
    async with open_redis_log(connections, log):
        yield log


class LogOfTwoProcesses(RedisEventLog):
    """A log that is written in one process, and read in another one when all that was written has arrived there."""

    def __init__(self, owner: RedisEventLog, reader: RedisEventLog) -> None:
        self._owner = owner
        self._reader = reader

    async def create(self, turn_id: str) -> None:
        await self._owner.create(turn_id)

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        return await self._owner.append(turn_id, events)

    async def delete(self, turn_id: str) -> None:
        await self._owner.delete(turn_id)

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        await self.arrive()
        return await self._reader.list_entries(turn_id)

    async def open_tail(self, turn_id: str, after: int = 0) -> Tail | None:
        await self.arrive()
        tail = await self._reader.open_tail(turn_id, after)
        return tail and TailElsewhere(self, turn_id, tail)

    async def arrive(self, turn_id: str | None = None) -> None:
        """Wait until the copy in the other process has all entries."""
        assert await self._owner.flush(PATIENCE_S)
        own = await self._owner.list_entries(turn_id) if turn_id else None
        mirror = self._reader.mirrors.get_mirror(turn_id) if turn_id else None
        tail = MemoryTail(mirror.log, mirror.last_seq) if own and mirror else None
        async with asyncio.timeout(PATIENCE_S):
            while own and mirror and tail and mirror.last_seq < len(own):
                await tail.read(PATIENCE_S)


class TailElsewhere:
    def __init__(self, log: LogOfTwoProcesses, turn_id: str, tail: Tail) -> None:
        self._log, self._turn_id, self._tail = log, turn_id, tail

    async def read(self, wait_s: float) -> Sequence[Entry]:
        await self._log.arrive(self._turn_id)
        return await self._tail.read(wait_s)

    @property
    def is_over(self) -> bool:
        return self._tail.is_over

    @property
    def ending(self) -> Failed | None:
        return self._tail.ending

    @property
    def is_cut_off(self) -> bool:
        return self._tail.is_cut_off

    def close(self) -> None:
        self._tail.close()


@asynccontextmanager
async def log_elsewhere(url: str, clock: FakeClock, **limits: Any) -> AsyncIterator[EventLog]:
    prefix = make_id("test")
    async with (
        redis_log(url, clock, prefix=prefix, worker="here/1/a", **limits) as owner,
        redis_log(url, clock, prefix=prefix, worker="there/2/b", **limits) as reader,
    ):
        yield LogOfTwoProcesses(owner, reader)


@pytest.fixture(params=["memory", "measured", "redis", "redis elsewhere"], scope="module")
def open_log(request: pytest.FixtureRequest) -> OpensLog:
    if not request.param.startswith("redis"):
        return {"memory": memory_log, "measured": measured_log}[request.param]
    url = request.getfixturevalue("redis_url")
    return partial(redis_log if request.param == "redis" else log_elsewhere, url)


def chunks(count: int, first: int = 1) -> list[TurnEvent]:
    return [Chunk(index, f"piece {index} ") for index in range(first, first + count)]


async def open_tail(log: EventLog, turn_id: str = TURN_ID, after: int = 0) -> Tail:
    tail = await log.open_tail(turn_id, after)
    assert tail is not None
    return tail


async def drain(tail: Tail) -> list[Entry]:
    """All entries up to the end of the log."""
    got: list[Entry] = []
    async with asyncio.timeout(PATIENCE_S):
        while not tail.is_over:
            got += await tail.read(PATIENCE_S)
    return got


async def list_entries(log: EventLog, turn_id: str = TURN_ID) -> Sequence[Entry]:
    entries = await log.list_entries(turn_id)
    assert entries is not None
    return entries


async def until_waiting() -> None:
    """Let every other task run until it waits for entries."""
    for _ in range(10):
        await asyncio.sleep(0)


def list_seqs(entries: Sequence[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


# Writing


async def test_entries_are_numbered_from_one_without_a_gap(open_log: OpensLog) -> None:
    """Over any number of appends, with the turn's id and the time of the append."""
    clock = FakeClock()
    async with open_log(clock) as log:
        await log.create(TURN_ID)
        first = await log.append(TURN_ID, [STARTED, *chunks(2)])
        clock.advance(1.5)
        second = await log.append(TURN_ID, [COMPLETED])

        assert [entry.id for entry in [*first, *second]] == [f"{TURN_ID}-{seq}" for seq in (1, 2, 3, 4)]
        assert (second[0].at - first[0].at).total_seconds() == 1.5
        assert list(await list_entries(log)) == [*first, *second]


async def test_a_new_log_is_empty_and_not_missing(open_log: OpensLog) -> None:
    """An empty list is not None."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)

        assert list(await list_entries(log)) == []
        assert await log.list_entries(OTHER_ID) is None
        assert await log.open_tail(OTHER_ID) is None


@settings(max_examples=30)
@given(middle=st.lists(middles, max_size=5), ending=endings)
async def test_every_kind_of_event_comes_back_as_it_was(
    open_log: OpensLog, middle: list[TurnEvent], ending: TurnEvent
) -> None:
    """A log that stores bytes returns equal values."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, [STARTED, *middle])
        await log.append(TURN_ID, [ending])

        assert [entry.event for entry in await drain(await open_tail(log))] == [STARTED, *middle, ending]
        assert [entry.event for entry in await list_entries(log)] == [STARTED, *middle, ending]


async def test_one_turn_is_never_seen_in_another(open_log: OpensLog) -> None:
    """Neither in its entries nor by its readers."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.create(OTHER_ID)
        reader = await open_tail(log)
        await log.append(OTHER_ID, [STARTED, COMPLETED])

        assert not await reader.read(AT_ONCE_S)
        assert not reader.is_over
        assert list(await list_entries(log)) == []


async def test_a_turn_has_one_log_ever(open_log: OpensLog) -> None:
    """A second one would use its ids again."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        with pytest.raises(ValueError, match="one log"):
            await log.create(TURN_ID)


@pytest.mark.parametrize("ending", [COMPLETED, FAILED], ids=["completed", "failed"])
@pytest.mark.parametrize(
    "late", [chunks(1), [COMPLETED], [FAILED], []], ids=["chunk", "completed", "failed", "nothing"]
)
async def test_after_the_terminal_event_every_append_is_refused(
    open_log: OpensLog, ending: TurnEvent, late: list[TurnEvent]
) -> None:
    """A late append changes nothing."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, [STARTED, ending])

        with pytest.raises(LogClosed):
            await log.append(TURN_ID, late)
        assert [entry.event for entry in await list_entries(log)] == [STARTED, ending]


async def test_an_append_to_no_log_is_refused(open_log: OpensLog) -> None:
    """It was deleted, has expired, or was never created."""
    async with open_log(FakeClock()) as log:
        with pytest.raises(LogClosed):
            await log.append(TURN_ID, [STARTED])
        assert await log.list_entries(TURN_ID) is None


async def test_of_fifty_attempts_to_end_a_turn_one_succeeds(open_log: OpensLog) -> None:
    """The reply, the deadline and the shutdown may come at the same time."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        results = await asyncio.gather(
            *(log.append(TURN_ID, [COMPLETED if n % 2 else FAILED]) for n in range(50)), return_exceptions=True
        )

        assert sum(isinstance(result, LogClosed) for result in results) == 49
        assert len(await list_entries(log)) == 1


async def test_what_is_appended_together_stays_together(open_log: OpensLog) -> None:
    """An append is one step: no other event comes in between."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        batches = [chunks(3, first=100 * n) for n in range(1, 30)]
        appended = await asyncio.gather(*(log.append(TURN_ID, batch) for batch in batches))

        for batch, entries in zip(batches, appended, strict=True):
            assert [entry.event for entry in entries] == batch
            assert list_seqs(entries) == list(range(entries[0].seq, entries[0].seq + 3))
        assert list_seqs(await list_entries(log)) == list(range(1, 88))


# Reading


@dataclass(frozen=True)
class Append:
    count: int


@dataclass(frozen=True)
class Attach:
    """A reader joins behind a share of the entries so far: 0 is the start, 1 the end."""

    share: float


@dataclass(frozen=True)
class Read:
    reader: int


@dataclass(frozen=True)
class Leave:
    reader: int


@dataclass
class Reader:
    """A reader, and the entries that it must have by now."""

    tail: Tail
    after: int
    got: list[Entry] = field(default_factory=list)


steps = st.one_of(
    st.builds(Append, st.integers(1, 4)),
    st.builds(Attach, st.sampled_from([0, 0.3, 0.5, 1])),
    st.builds(Read, st.integers(0, 5)),
    st.builds(Leave, st.integers(0, 5)),
)


@given(script=st.lists(steps, max_size=30), ending=st.sampled_from([COMPLETED, FAILED]))
async def test_a_reader_gets_every_entry_once_wherever_it_joins(
    open_log: OpensLog, script: list[Append | Attach | Read | Leave], ending: TurnEvent
) -> None:
    """Random appends and random readers: each gets every entry behind its position once, then the end."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        written: list[Entry] = []
        readers: list[Reader] = []
        for step in script:
            if isinstance(step, Append):
                written += await log.append(TURN_ID, chunks(step.count, first=len(written) + 1))
            elif isinstance(step, Attach):
                after = int(step.share * len(written))
                readers.append(Reader(await open_tail(log, after=after), after))
            elif readers:
                reader = readers[step.reader % len(readers)]
                if isinstance(step, Read):
                    await _read_all_that_is_new(reader, written)
                else:
                    reader.tail.close()
                    readers.remove(reader)
        written += await log.append(TURN_ID, [ending])

        for reader in readers:
            reader.got += await drain(reader.tail)
            assert reader.got == written[reader.after :]
            assert [entry.event.is_terminal for entry in reader.got].count(True) == 1
            assert reader.tail.is_over
            assert not await reader.tail.read(PATIENCE_S)


async def _read_all_that_is_new(reader: Reader, written: list[Entry]) -> None:
    expected = written[reader.after + len(reader.got) :]
    fresh = await reader.tail.read(PATIENCE_S if expected else AT_ONCE_S)
    assert list(fresh) == expected
    assert not reader.tail.is_over
    reader.got += fresh


# Without shrinking: where the hand-over is broken, every example waits for its whole patience.
@settings(max_examples=50, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    batches=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=12),
    joins=st.lists(st.tuples(st.integers(0, 25), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=6),
)
async def test_past_entries_are_followed_by_live_ones_without_a_gap(
    open_log: OpensLog, batches: list[tuple[int, int]], joins: list[tuple[int, float]]
) -> None:
    """Writer and readers run concurrently; each reader joins at its own time and position."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)

        async def write() -> None:
            for count, pauses in batches:
                await log.append(TURN_ID, chunks(count))
                for _ in range(pauses):
                    await asyncio.sleep(0)
            await log.append(TURN_ID, [COMPLETED])

        async def read(pauses: int, share: float) -> tuple[int, list[Entry]]:
            for _ in range(pauses):
                await asyncio.sleep(0)
            after = int(share * len(await list_entries(log)))
            return after, await drain(await open_tail(log, after=after))

        writing = asyncio.ensure_future(write())
        read_by_each = await asyncio.gather(*(read(*join) for join in joins))
        await writing

        last = 1 + sum(count for count, _ in batches)
        assert [list_seqs(got) for _, got in read_by_each] == [
            list(range(after + 1, last + 1)) for after, _ in read_by_each
        ]


async def test_a_late_wake_up_is_no_timeout(open_log: OpensLog) -> None:
    """The next read still waits for new entries, so that a stream sends no heartbeat too early."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        reader = await open_tail(log)
        await log.append(TURN_ID, [STARTED])
        assert list_seqs(await reader.read(PATIENCE_S)) == [1]

        waiting = asyncio.ensure_future(reader.read(PATIENCE_S))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        await log.append(TURN_ID, [COMPLETED])
        assert list_seqs(await waiting) == [2]


async def test_no_entries_yet_is_not_the_end(open_log: OpensLog) -> None:
    """A read without entries returns none after the wait; `is_over` is set with the last entry."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        reader = await open_tail(log)

        assert (list_seqs(await reader.read(0.001)), reader.is_over) == ([], False)
        await log.append(TURN_ID, [STARTED])
        assert (list_seqs(await reader.read(PATIENCE_S)), reader.is_over) == ([1], False)
        assert (list_seqs(await reader.read(AT_ONCE_S)), reader.is_over) == ([], False)
        await log.append(TURN_ID, [COMPLETED])
        assert not reader.is_over
        assert (list_seqs(await reader.read(PATIENCE_S)), reader.is_over) == ([2], True)


async def test_an_append_wakes_waiting_readers(open_log: OpensLog) -> None:
    """All of them, long before their wait is over."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        waiting = [asyncio.ensure_future((await open_tail(log)).read(60)) for _ in range(20)]
        await until_waiting()
        assert not any(task.done() for task in waiting)

        await log.append(TURN_ID, [STARTED])
        async with asyncio.timeout(PATIENCE_S):
            assert [list_seqs(entries) for entries in await asyncio.gather(*waiting)] == [[1]] * 20


async def test_a_reader_behind_the_last_entry_of_a_finished_turn_is_over_at_once(open_log: OpensLog) -> None:
    """There is nothing to wait for."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, [STARTED, COMPLETED])
        reader = await open_tail(log, after=2)

        assert reader.is_over
        async with asyncio.timeout(PATIENCE_S):
            assert not await reader.read(60)


@pytest.mark.parametrize("after", range(len(EVENTS) - 1))
async def test_a_finished_turn_is_replayed_from_any_place(open_log: OpensLog, after: int) -> None:
    """The rest of the entries, then the end."""
    turn = [*(event for event in EVENTS if not event.is_terminal), COMPLETED]
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, turn)

        assert list_seqs(await drain(await open_tail(log, after=after))) == list(range(after + 1, len(turn) + 1))


@pytest.mark.parametrize("is_news_first", [False, True], ids=["before the news", "as the news comes"])
async def test_a_read_that_is_cancelled_loses_nothing(open_log: OpensLog, is_news_first: bool) -> None:
    """The next read continues behind the last entry that was returned."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        reader = await open_tail(log)
        waiting = asyncio.ensure_future(reader.read(60))
        await until_waiting()

        if is_news_first:
            await log.append(TURN_ID, [STARTED])
        waiting.cancel()
        await asyncio.wait([waiting], timeout=PATIENCE_S)
        got = [] if waiting.cancelled() else list(waiting.result())
        if not is_news_first:
            await log.append(TURN_ID, [STARTED])
        await log.append(TURN_ID, [COMPLETED])

        assert list_seqs(got + await drain(reader)) == [1, 2]


async def test_a_slow_reader_never_delays_the_writer(open_log: OpensLog) -> None:
    """Nor do five hundred that never read. Each still gets everything later."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        asleep = [await open_tail(log) for _ in range(500)]
        quick = asyncio.ensure_future(drain(await open_tail(log)))
        async with asyncio.timeout(PATIENCE_S):
            for index in range(1, 1001):
                await log.append(TURN_ID, [Chunk(index, "Ro")])
            await log.append(TURN_ID, [COMPLETED])

        assert list_seqs(await quick) == list_seqs(await drain(asleep[0])) == list(range(1, 1002))


async def test_readers_come_and_go_without_a_trace(open_log: OpensLog) -> None:
    """Closing twice is harmless, and the others read on."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        stays, leaves = await open_tail(log), await open_tail(log)
        leaves.close()
        leaves.close()
        await log.append(TURN_ID, [STARTED, COMPLETED])
        leaves.close()

        assert list_seqs(await drain(stays)) == [1, 2]


@pytest.mark.parametrize("events", [[], [STARTED], [STARTED, COMPLETED]], ids=["empty", "running", "finished"])
async def test_a_reader_behind_an_entry_that_there_is_not_is_refused(
    open_log: OpensLog, events: list[TurnEvent]
) -> None:
    """Whoever asks so has another turn's position, or one that it made up."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, events)
        with pytest.raises(EntryAhead):
            await log.open_tail(TURN_ID, len(events) + 1)


# Forgetting


async def test_deleting_a_log_wakes_its_readers_and_ends_it_for_them(open_log: OpensLog) -> None:
    """When a session is deleted, no reader waits for further entries."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, [STARTED])
        readers = [await open_tail(log, after=1) for _ in range(3)]
        waiting = [asyncio.ensure_future(reader.read(60)) for reader in readers]
        await until_waiting()

        await log.delete(TURN_ID)
        async with asyncio.timeout(PATIENCE_S):
            assert [list(entries) for entries in await asyncio.gather(*waiting)] == [[]] * 3
        assert all(reader.is_over for reader in readers)


@pytest.mark.parametrize("events", [[], [STARTED], [STARTED, COMPLETED]], ids=["empty", "running", "finished"])
async def test_a_deleted_log_is_gone(open_log: OpensLog, events: list[TurnEvent]) -> None:
    """No entries, no tail, no append; deleting it again is no error."""
    async with open_log(FakeClock()) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, events)
        await log.delete(TURN_ID)
        await log.delete(TURN_ID)

        assert await log.list_entries(TURN_ID) is None
        assert await log.open_tail(TURN_ID) is None
        with pytest.raises(LogClosed):
            await log.append(TURN_ID, [COMPLETED])


async def test_a_finished_log_expires_after_the_replay_window(open_log: OpensLog) -> None:
    """Until then, counted from the end of the turn, it can be replayed."""
    clock = FakeClock()
    async with open_log(clock) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, [STARTED])
        clock.advance(WINDOW_S)
        await log.append(TURN_ID, [COMPLETED])

        clock.advance(WINDOW_S - 1)
        assert list_seqs(await drain(await open_tail(log))) == [1, 2]
        clock.advance(1)
        assert await log.list_entries(TURN_ID) is None
        assert await log.open_tail(TURN_ID) is None


async def test_the_log_of_a_running_turn_never_expires(open_log: OpensLog) -> None:
    """Its writer and its readers still need it, however long it takes."""
    clock = FakeClock()
    async with open_log(clock, max_turns=1) as log:
        await log.create(TURN_ID)
        await log.append(TURN_ID, [STARTED])
        for n in range(5):
            await log.create(f"turn_{n}")
            await log.append(f"turn_{n}", [COMPLETED])
            clock.advance(WINDOW_S * 2)

        await log.append(TURN_ID, [COMPLETED])
        assert list_seqs(await drain(await open_tail(log))) == [1, 2]


async def test_an_open_reader_reads_an_expired_log_to_the_end(open_log: OpensLog) -> None:
    """It is gone for new readers only."""
    clock = FakeClock()
    async with open_log(clock) as log:
        await log.create(TURN_ID)
        reader = await open_tail(log)
        await log.append(TURN_ID, [STARTED, COMPLETED])
        clock.advance(WINDOW_S)
        assert await log.open_tail(TURN_ID) is None

        assert list_seqs(await drain(reader)) == [1, 2]


async def test_beyond_the_limit_the_turn_that_ended_first_is_deleted_first(open_log: OpensLog) -> None:
    """Memory is bounded whatever the window; running turns do not count."""
    async with open_log(FakeClock(), max_turns=2) as log:
        names = ["turn_a", "turn_b", "turn_c", "turn_running"]
        for name in names:
            await log.create(name)
        for name in ("turn_c", "turn_a", "turn_b"):
            await log.append(name, [COMPLETED])

        kept = [name for name in names if await log.list_entries(name) is not None]
        assert kept == ["turn_a", "turn_b", "turn_running"]


async def test_times_are_those_of_the_clock(open_log: OpensLog) -> None:
    """In UTC."""
    clock = FakeClock()
    async with open_log(clock) as log:
        await log.create(TURN_ID)
        (entry,) = await log.append(TURN_ID, [STARTED])

        assert entry.at == clock.now()
        assert entry.at.utcoffset() == NOON.utcoffset()
