"""`SSEStreamer`, beyond the unit test of the first front end in `tests/source_documents/`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from starlette.types import Message

from openapi_server.engine.turn_reader import TurnReader
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.models.errors import Draining, Interrupted, ProviderFailed
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import AgeGroup, Outcome, TurnRecord, TurnStatus
from openapi_server.models.turn_events import Chunk, Entry, Failed, TurnEvent
from openapi_server.wire.contracts import CONTRACTS
from openapi_server.wire.convo import CONVO
from openapi_server.wire.platform import PLATFORM
from openapi_server.wire.sse import Contract
from tests.readers.python_readers import by_a_browser
from tests.support.contract import check_order, check_stream, parse_events
from tests.support.examples import COMPLETED, STARTED, TURN_ID, number_events
from tests.support.fakes import FakeClock

NOW = datetime(2026, 11, 21, 10, 30, 40, tzinfo=UTC)


async def collect(stream: AsyncGenerator[str, None]) -> str:
    return "".join([piece async for piece in stream])


def as_stream(text: str) -> bytes:
    return b"retry: 2000\n" + text.encode()


async def test_any_text_becomes_a_whole_stream_of_the_contract() -> None:
    """Metadata, typing, one chunk a piece, and complete with the whole text; empty pieces say nothing."""

    async def pieces() -> AsyncIterator[str]:
        for piece in ("Hello ", "", "World!"):
            yield piece

    events = parse_events(as_stream(await collect(SSEStreamer().stream_chat_response(pieces(), "s1", "lion_001"))))

    check_order([event.event for event in events])
    assert [event.data["content"] for event in events if event.event == "chunk"] == ["Hello ", "World!"]
    assert events[-1].data["fullResponse"] == "Hello World!"
    assert events[0].data["sessionId"] == "s1"


@pytest.mark.parametrize(
    ("error", "code"), [(OSError("secret"), "provider_failed"), (ProviderFailed(), "provider_failed")]
)
async def test_a_source_that_breaks_ends_in_an_error_event(error: Exception, code: str) -> None:
    """The client gets a terminal event, without the exception's text."""

    async def pieces() -> AsyncIterator[str]:
        yield "Hello "
        raise error

    text = await collect(SSEStreamer().stream_chat_response(pieces(), "s1", "lion_001"))

    last = parse_events(as_stream(text))[-1]
    assert (last.event, last.data["error"]["code"]) == ("error", code)
    assert "secret" not in text


async def test_typing_lasts_as_long_as_the_work() -> None:
    """Start before it, stop after it, with the real duration."""
    go = asyncio.Event()
    stream = SSEStreamer().stream_typing_indicator(go.wait())

    start = await anext(stream)
    go.set()
    stop = await anext(stream)

    assert '"status":"start"' in start
    assert '"status":"stop"' in stop
    assert '"durationMs":' in stop


async def test_a_history_is_told_in_order() -> None:
    """session, history for each turn, history_complete; an unanswered turn has a null reply."""

    async def turns() -> AsyncIterator[TurnRecord]:
        answered = Outcome(TurnStatus.SUCCEEDED, NOW, reply="Roar!")
        yield TurnRecord("turn_1", "s1", "lion_001", AgeGroup.ADULT, "Hi", "m", NOW, outcome=answered)
        yield TurnRecord("turn_2", "s1", "lion_001", AgeGroup.ADULT, "Bye", "m", NOW)

    session = SessionRecord("s1", "lion_001", None, NOW, NOW, turn_count=2)
    events = parse_events((await collect(SSEStreamer().stream_conversation_history(session, turns()))).encode())

    assert [event.event for event in events] == ["session", "history", "history", "history_complete"]
    assert [event.data["assistantReply"] for event in events[1:3]] == ["Roar!", None]
    assert events[-1].data == {"totalMessages": 3}


class Wire:
    """The far side of an ASGI answer: what was sent, and when the client leaves."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.has_begun = asyncio.Event()
        self.leave = asyncio.Event()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.has_begun.set()


async def test_a_client_that_leaves_ends_the_stream_at_once() -> None:
    """The source is closed, not left waiting."""
    wire = Wire()
    was_closed = asyncio.Event()

    async def endless() -> AsyncGenerator[str, None]:
        try:
            yield "event: a\ndata: {}\n\n"
            await asyncio.Event().wait()
        finally:
            was_closed.set()

    answer = asyncio.create_task(SSEStreamer().create_sse_response(endless())({}, wire.receive, wire.send))
    await asyncio.wait_for(wire.has_begun.wait(), 1)
    wire.leave.set()
    await asyncio.wait_for(answer, 1)

    assert was_closed.is_set()


async def test_an_error_before_the_first_piece_comes_before_the_headers() -> None:
    """Until something was sent, an error can still become a status."""
    wire = Wire()

    async def broken() -> AsyncGenerator[str, None]:
        raise ProviderFailed
        yield ""

    with pytest.raises(ProviderFailed):
        await SSEStreamer().create_sse_response(broken())({}, wire.receive, wire.send)

    assert wire.sent == []


async def test_the_last_part_of_a_turn_leaves_with_the_end_of_the_response() -> None:
    """One write: each takes longer than all that makes a part. The reader is closed before."""
    clock, wire, closed_behind = FakeClock(), Wire(), []
    reader = TurnReader(
        TURN_ID, [], Rehearsed(clock, SILENT), clock, lambda reader: closed_behind.append(len(wire.sent))
    )

    stream = SSEStreamer(clock=clock).stream_turn(reader)
    await SSEStreamer().create_sse_response(stream)({}, wire.receive, wire.send)

    head, *parts, last = wire.sent
    assert head["type"] == "http.response.start"
    assert all(part["more_body"] for part in parts)
    assert (b"event: complete" in last["body"], last["more_body"]) == (True, False)
    assert closed_behind == [len(wire.sent) - 1]


# Silence


class Rehearsed:
    """A place in a log that fills at rehearsed times: (seconds since the beginning, event). Waiting takes no time."""

    ending: Failed | None = None
    is_cut_off = False

    def __init__(self, clock: FakeClock, script: Sequence[tuple[float, TurnEvent]]) -> None:
        self._clock = clock
        self._began_s = clock.monotonic()
        self._coming = [
            (at_s, entry) for (at_s, _), entry in zip(script, number_events(e for _, e in script), strict=True)
        ]

    async def read(self, wait_s: float) -> Sequence[Entry]:
        now_s = self._clock.monotonic() - self._began_s
        self._clock.advance(max(0.0, min(wait_s, self._coming[0][0] - now_s)))
        now_s = self._clock.monotonic() - self._began_s
        ready = [entry for at_s, entry in self._coming if at_s <= now_s]
        self._coming = self._coming[len(ready) :]
        return ready

    @property
    def is_over(self) -> bool:
        return not self._coming

    def close(self) -> None:
        pass


async def timed(
    contract: Contract, script: Sequence[tuple[float, TurnEvent]], *, is_queued: bool = False
) -> list[tuple[float, bytes]]:
    """Each part of the stream with the seconds until it was sent."""
    clock = FakeClock()
    reader = TurnReader(TURN_ID, [], Rehearsed(clock, script), clock, is_queued=is_queued)
    began_s, pieces = clock.monotonic(), SSEStreamer(contract, heartbeat_s=15, clock=clock).stream_turn(reader)
    return [(clock.monotonic() - began_s, piece) async for piece in pieces]


# A chunk every four seconds for a minute: one contract shows them, the other is silent until the end.
TALKATIVE = [(0, STARTED), *((4.0 * n, Chunk(n, "Roar! ")) for n in range(1, 16)), (62, COMPLETED)]
# Nothing at all for a minute, then everything.
SILENT = [(0, STARTED), (60, Chunk(1, "Roar!")), (61, COMPLETED)]


@pytest.mark.parametrize("script", [TALKATIVE, SILENT], ids=["while chunks flow", "while nothing happens"])
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_a_stream_is_never_silent_for_longer_than_its_heartbeat(
    contract: Contract, script: Sequence[tuple[float, TurnEvent]]
) -> None:
    """What a contract has no word for is silence on the wire: entries that nobody sees do not put the heartbeat off."""
    sent = await timed(contract, script)

    times = [at_s for at_s, _ in sent]
    assert max(after - before for before, after in pairwise([0.0, *times])) <= 15
    events = parse_events(b"".join(piece for _, piece in sent))
    assert events[-1].id == (None if contract.is_bare else f"{TURN_ID}-{len(script)}")


async def test_heartbeats_come_only_into_silence() -> None:
    """A contract that shows every chunk needs none; one that shows none gets one every fifteen seconds."""
    convo, platform = await timed(CONVO, TALKATIVE), await timed(PLATFORM, TALKATIVE)
    beat = b"event: heartbeat\ndata: {}\n\n"

    assert b"heartbeat" not in b"".join(piece for _, piece in convo)
    assert [at_s for at_s, piece in platform if piece == beat] == [15, 30, 45, 60]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_a_turn_that_waited_and_has_ended_sends_no_heartbeat_behind_its_end(contract: Contract) -> None:
    """While it waits, its stream says so at once; when all of it is there, nothing follows the terminal event."""
    script = [(0.0, STARTED), (0.0, COMPLETED)]
    ended = b"".join(piece for _, piece in await timed(contract, script, is_queued=True))
    (_, first), *_ = await timed(contract, SILENT, is_queued=True)

    assert ended == b"".join(piece for _, piece in await timed(contract, script))
    assert len(first) > len((await timed(contract, SILENT))[0][1])


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_the_retry_line_goes_out_at_once(contract: Contract) -> None:
    """And the headers with it, also where the first word that the contract has is a minute away.

    A bare stream has nothing to say yet: its headers go out alone.
    """
    (at_s, first), *rest = await timed(contract, SILENT)

    assert at_s == 0
    opening = b"" if contract.is_bare else b"retry: 2000\n"
    assert first == opening + contract.encode_entries(number_events([STARTED]))
    assert not any(b"retry:" in piece for _, piece in rest)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_a_resumed_stream_begins_at_once_too(contract: Contract) -> None:
    """Where there is nothing new yet, its reader still learns at once that it is connected."""
    (at_s, first), *_ = await timed(contract, SILENT[1:])

    assert (at_s, first) == (0, b"" if contract.is_bare else b"retry: 2000\n")


# A shutdown

NOTICE = b": the server restarts; come back in a moment\n"


def read_lines(raw: bytes) -> list[str]:
    """As the readers of the token guide's tests and of the device guide do: line by line."""
    return [line.removeprefix("data: ") for line in raw.decode().split("\n") if line.startswith("data: ")]


def read_blocks(raw: bytes) -> list[str]:
    """Block by block, without those that begin with a comment."""
    blocks = [block for block in raw.decode().split("\n\n") if not block.startswith(":")]
    return [data for block in blocks for data in read_lines(block.encode())]


def read_as_a_browser(raw: bytes) -> list[str]:
    return [event.data for event in by_a_browser([raw])]


@pytest.mark.parametrize("read", [read_lines, read_blocks, read_as_a_browser])
@pytest.mark.parametrize(
    "begun",
    [[(0, STARTED), (0.5, Chunk(1, "Roar!"))], [(0, STARTED)], []],
    ids=["behind a chunk", "behind the start", "resumed"],
)
@pytest.mark.parametrize("error", [Interrupted(), Draining()], ids=["interrupted", "draining"])
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_the_notice_of_a_restart_hides_no_event(
    contract: Contract,
    begun: Sequence[tuple[float, TurnEvent]],
    error: Interrupted | Draining,
    read: Callable[[bytes], list[str]],
) -> None:
    """Whichever way a client splits the stream, it reads the last event, and no event without data."""
    failed = Failed(error.problem)
    sent = b"".join(piece for _, piece in await timed(contract, [*begun, (1, failed)]))

    encoded = contract.encode_entries(number_events([*(event for _, event in begun), failed]))
    *before, last, _ = encoded.split(b"\n\n")
    shown = b"".join(block + b"\n\n" for block in before)
    if contract.is_bare:
        expected = shown + NOTICE + b"\n"
    else:
        expected = b"retry: 2000\n" + shown + (b"retry: 1000\n" if shown else b"") + NOTICE
    assert sent == expected + last + b"\n\n"
    assert read(sent) == read(encoded)
    parse_events(sent)


# Other processes


async def stream_end_elsewhere(
    contract: Contract, *, ending: Failed | None = None, is_cut_off: bool = False, spread_ms: int = 0
) -> bytes:
    """The stream of a turn of another process, up to an end that is not in its log."""
    clock = FakeClock()
    tail = Rehearsed(clock, [(0, STARTED), (0.5, Chunk(1, "Roar!"))])
    tail.ending, tail.is_cut_off = ending, is_cut_off
    reader = TurnReader(TURN_ID, [], tail, clock)
    streamer = SSEStreamer(contract, clock=clock, reconnect_spread_ms=spread_ms)
    return b"".join([part async for part in streamer.stream_turn(reader)])


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_an_end_that_another_process_tells_has_no_id(contract: Contract) -> None:
    """The number of its entry is not known. It is an event of the contract, and the last one."""
    operation, ending = CONTRACTS[contract], Failed(Interrupted().problem)
    raw = await stream_end_elsewhere(contract, ending=ending)

    is_resumable = operation.path == "/chat" and not contract.is_bare
    events = check_stream(operation.path, raw, method=operation.method, is_resumable=is_resumable)
    assert events[-1].id is None
    assert Interrupted.code in str(events[-1].data)
    assert raw.count(NOTICE) == 1
    shown = contract.encode_entries(number_events([STARTED, Chunk(1, "Roar!")]))
    assert read_as_a_browser(raw)[:-1] == read_as_a_browser(shown)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_a_reader_of_a_turn_that_goes_on_elsewhere_is_told_to_come_back(contract: Contract) -> None:
    """At a time of its own, with no event: the turn has not ended."""
    raws = [await stream_end_elsewhere(contract, is_cut_off=True, spread_ms=3000) for _ in range(20)]

    shown = contract.encode_entries(number_events([STARTED, Chunk(1, "Roar!")]))
    for raw in raws:
        assert raw.count(NOTICE) == 1
        assert read_as_a_browser(raw) == read_as_a_browser(shown)
        parse_events(raw)
    waits = {int(found) for raw in raws for found in re.findall(rb"retry: ([0-9]+)\n: the server", raw)}
    if contract.is_bare:
        assert not waits
    else:
        assert len(waits) > 10
        assert all(1000 <= wait <= 4000 for wait in waits)
