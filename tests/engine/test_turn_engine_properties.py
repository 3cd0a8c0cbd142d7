"""Whatever happens to a turn, in whatever order: no gap, no repeat, one end, and the readers hear what is kept."""

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

# What can happen, one thing after the other. Numbers choose among readers, or a place in the log.
HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from(["Roar ", "I ", "am "])),
        st.tuples(st.just("join"), st.integers(0, 12)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["finish", "break", "stop", "orphan", "taken for dead", "store away", "store back"])),
        st.tuples(st.sampled_from(["forget", "drain", "poll"])),
    ),
    max_size=14,
)


class ControlledProvider(SingleModelProvider):
    """A provider that says what it is told, when it is told."""

    model = "puppet"

    def __init__(self) -> None:
        self.strings: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        while (pulled := await self.strings.get()) is not None:
            if isinstance(pulled, Exception):
                raise pulled
            yield pulled
        yield ReplyEnd()


class RecordingReader:
    """A reader that notes what it hears, from where it joined until it leaves."""

    def __init__(self, bench: EngineBench, turn_id: str, after: int) -> None:
        self.after = after
        self.heard: list[Entry] = []
        self.has_left = False
        self.task = asyncio.create_task(self._listen(bench, turn_id))

    async def _listen(self, bench: EngineBench, turn_id: str) -> None:
        with await bench.engine.open_reader(turn_id, self.after) as reader:
            while not reader.is_over:
                self.heard += await reader.read(5)

    def leave(self) -> None:
        self.has_left = self.has_left or not self.task.done()
        self.task.cancel()


async def play(
    bench: EngineBench, puppet: ControlledProvider, happenings: list[tuple[object, ...]]
) -> list[RecordingReader]:
    """A turn to which all of it happens, until it has ended."""
    started = await bench.engine.start_turn(TurnRequest(make_lion(), make_request().message))
    listeners = [RecordingReader(bench, started.turn_id, 0)]
    for name, *more in happenings:
        entries = await bench.log.list_entries(started.turn_id)
        match name:
            case "say" | "finish" | "break":
                puppet.strings.put_nowait({"finish": None, "break": OSError("upstream")}.get(name, *more[:1]))  # type: ignore[arg-type]
            case "join" if entries:
                listeners.append(RecordingReader(bench, started.turn_id, min(int(str(more[0])), len(entries))))
            case "leave":
                listeners[int(str(more[0])) % len(listeners)].leave()
            case "stop" | "forget" | "drain" as how:
                await asyncio.wait_for(asyncio.shield(run_ending(bench, started.turn_id, how)), 5)
            case "taken for dead":
                await bench.leases.settle_orphan(started.turn_id) if not bench.store.fails_to_settle else None
            case "orphan":
                running = bench.engine._running.get(started.turn_id)
                if running is not None:
                    bench.engine._on_orphaned(running)
            case "store away" | "store back":
                bench.store.fails_to_settle = name == "store away"
            case "poll":
                await bench.engine.get_state(started.turn_id)
        for _ in range(5):
            await asyncio.sleep(0)
    bench.store.fails_to_settle = False
    await bench.engine.close()
    await asyncio.gather(*(listener.task for listener in listeners), return_exceptions=True)
    return listeners


async def run_ending(bench: EngineBench, turn_id: str, how: str) -> None:
    match how:
        case "forget":
            await bench.engine.delete_turns([turn_id])
        case "drain":
            bench.store.fails_to_settle = False
            await bench.engine.close()
        case _:
            bench.store.fails_to_settle = False
            await bench.engine.stop_turn(turn_id)


@settings(max_examples=120, deadline=None)
@given(happenings=HAPPENINGS)
def test_whatever_happens_to_a_turn_it_ends_once_and_everybody_hears_the_same(
    happenings: list[tuple[object, ...]],
) -> None:
    """Readers that stayed heard everything after their place, in order, up to exactly one terminal event."""
    puppet = ControlledProvider()
    bench_log: list[EngineBench] = []

    async def scenario() -> list[RecordingReader]:
        bench_log.append(EngineBench(puppet, grace_s=60))
        async with asyncio.timeout(20):
            return await play(bench_log[0], puppet, happenings)

    # No waiting between the tries to settle: what is tested is the order of things, not their pace.
    with mock.patch.object(turn_lifecycle, "SETTLE_RETRY_DELAYS_S", (0.0, 0.0)):
        listeners = asyncio.run(scenario())

    (bench,) = bench_log
    assert bench.engine.running_count == 0
    assert bench.engine.reader_count == 0
    for listener in listeners:
        assert [entry.seq for entry in listener.heard] == [
            listener.after + place for place in range(1, len(listener.heard) + 1)
        ]
        ends = [entry for entry in listener.heard if entry.event.is_terminal]
        if not listener.has_left and listener.heard:
            assert ends == listener.heard[-1:]
        assert_kept(bench, listener, ends)


def assert_kept(bench: EngineBench, listener: RecordingReader, ends: list[Entry]) -> None:
    """What a reader was told is what the store kept first."""
    for end in ends:
        outcomes = bench.store.outcomes.get(end.turn_id, [])
        match end.event:
            case Completed(reply=reply):
                assert outcomes[0].reply == reply
                assert outcomes[0].status in (TurnStatus.SUCCEEDED, TurnStatus.STOPPED)
                if listener.after == 0:
                    assert "".join(e.event.text for e in listener.heard if isinstance(e.event, Chunk)) == reply
            case Failed():
                assert not outcomes or outcomes[0].status is TurnStatus.FAILED or "session_deleted" in repr(end.event)
