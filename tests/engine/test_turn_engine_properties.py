"""Random sequences of events in the life of a turn: one end, no gaps, and readers get what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.engine import turn_lifecycle
from openapi_server.engine.turn_request import TurnRequest
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import TurnStatus
from openapi_server.models.turn_events import Chunk, Completed, Entry, Failed
from openapi_server.protocols import ReplyEnd
from tests.engine.bench import EngineBench, make_request
from tests.support.fakes import SingleModelProvider, make_lion

# The events, in any order. Numbers select a reader, or a position in the log.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.sampled_from(["Roar ", "I ", "am "])),
        st.tuples(st.just("join"), st.integers(0, 12)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(["finish", "break", "stop", "orphan", "lease lost", "store fails", "store recovers"])
        ),
        st.tuples(st.sampled_from(["delete", "drain", "poll"])),
    ),
    max_size=14,
)


class ControlledProvider(SingleModelProvider):
    """A provider that streams what the test puts into its queue."""

    model = "controlled"

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        while (item := await self.queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
        yield ReplyEnd()


class RecordingReader:
    """A reader that records the entries it gets, until it leaves."""

    def __init__(self, bench: EngineBench, turn_id: str, after: int) -> None:
        self.after = after
        self.entries: list[Entry] = []
        self.has_left = False
        self.task = asyncio.create_task(self._read(bench, turn_id))

    async def _read(self, bench: EngineBench, turn_id: str) -> None:
        with await bench.engine.open_reader(turn_id, self.after) as reader:
            while not reader.is_over:
                self.entries += await reader.read(5)

    def leave(self) -> None:
        self.has_left = self.has_left or not self.task.done()
        self.task.cancel()


async def run_events(
    bench: EngineBench, provider: ControlledProvider, events: list[tuple[object, ...]]
) -> list[RecordingReader]:
    """Run one turn through the events, to its end."""
    started = await bench.engine.start_turn(TurnRequest(make_lion(), make_request().message))
    readers = [RecordingReader(bench, started.turn_id, 0)]
    for name, *more in events:
        entries = await bench.log.list_entries(started.turn_id)
        match name:
            case "text" | "finish" | "break":
                provider.queue.put_nowait({"finish": None, "break": OSError("upstream")}.get(name, *more[:1]))  # type: ignore[arg-type]
            case "join" if entries:
                readers.append(RecordingReader(bench, started.turn_id, min(int(str(more[0])), len(entries))))
            case "leave":
                readers[int(str(more[0])) % len(readers)].leave()
            case "stop" | "delete" | "drain" as how:
                await asyncio.wait_for(asyncio.shield(end_turn(bench, started.turn_id, how)), 5)
            case "lease lost":
                await bench.leases.settle_orphan(started.turn_id) if not bench.store.fails_to_settle else None
            case "orphan":
                running = bench.engine._running.get(started.turn_id)
                if running is not None:
                    bench.engine._on_orphaned(running)
            case "store fails" | "store recovers":
                bench.store.fails_to_settle = name == "store fails"
            case "poll":
                await bench.engine.get_state(started.turn_id)
        for _ in range(5):
            await asyncio.sleep(0)
    bench.store.fails_to_settle = False
    await bench.engine.close()
    await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
    return readers


async def end_turn(bench: EngineBench, turn_id: str, how: str) -> None:
    match how:
        case "delete":
            await bench.engine.delete_turns([turn_id])
        case "drain":
            bench.store.fails_to_settle = False
            await bench.engine.close()
        case _:
            bench.store.fails_to_settle = False
            await bench.engine.stop_turn(turn_id)


@settings(max_examples=120, deadline=None)
@given(events=EVENTS)
def test_a_turn_ends_once_for_all_readers_whatever_happens(
    events: list[tuple[object, ...]],
) -> None:
    """Readers that stayed got every entry behind their position, in order, up to exactly one terminal event."""
    provider = ControlledProvider()
    bench_log: list[EngineBench] = []

    async def scenario() -> list[RecordingReader]:
        bench_log.append(EngineBench(provider, grace_s=60))
        async with asyncio.timeout(20):
            return await run_events(bench_log[0], provider, events)

    # No delays between the attempts to settle: the order matters here, not the time.
    with mock.patch.object(turn_lifecycle, "SETTLE_RETRY_DELAYS_S", (0.0, 0.0)):
        readers = asyncio.run(scenario())

    (bench,) = bench_log
    assert bench.engine.running_count == 0
    assert bench.engine.reader_count == 0
    for reader in readers:
        assert [entry.seq for entry in reader.entries] == [
            reader.after + offset for offset in range(1, len(reader.entries) + 1)
        ]
        ends = [entry for entry in reader.entries if entry.event.is_terminal]
        if not reader.has_left and reader.entries:
            assert ends == reader.entries[-1:]
        assert_stored(bench, reader, ends)


def assert_stored(bench: EngineBench, reader: RecordingReader, ends: list[Entry]) -> None:
    """The terminal event that a reader got matches the outcome that was stored first."""
    for end in ends:
        outcomes = bench.store.outcomes.get(end.turn_id, [])
        match end.event:
            case Completed(reply=reply):
                assert outcomes[0].reply == reply
                assert outcomes[0].status in (TurnStatus.SUCCEEDED, TurnStatus.STOPPED)
                if reader.after == 0:
                    assert "".join(e.event.text for e in reader.entries if isinstance(e.event, Chunk)) == reply
            case Failed():
                assert not outcomes or outcomes[0].status is TurnStatus.FAILED or "session_deleted" in repr(end.event)
