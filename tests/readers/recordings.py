"""Streams of the real application, recorded for every contract, and what the contract says of each.

What readers have to see comes from the turn's log and the contract's encoder, and from no parser.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import httpx

from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Entry
from openapi_server.protocols import Provider
from openapi_server.wire.contracts import CONTRACTS
from openapi_server.wire.sse import Contract, Frame, encode_json
from tests.api.chat_endpoints import CHAT, CHAT_ENDPOINTS, ChatEndpoint, get_turn_id, open_endpoint
from tests.api.test_on_busy import open_talk
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import Fails, FakeClock, Says, Waits

# Text in which careless readers find line ends, blank lines, fields and the ends of other events.
PIECES = ("Grüße! ", "🦁 one\u2028two\u2029", 'data: {"type":"done"}\n\n', "event: done\nid: 7\n", "Bye.")
GREETING = "Grüße!\u2028🦁"
KEY = "0b6f9c1e-58a3-4d0e-9b6e-3a1c2d4e5f60"
BARE = replace(CHAT, name="bare chat", body={"session_id": "my-talk"})
RESUMABLE = list(CHAT_ENDPOINTS)
ENDPOINTS = {**CHAT_ENDPOINTS, BARE.name: BARE}
CONTRACTS_BY_NAME = {("bare " if contract.is_bare else "") + contract.name: contract for contract in CONTRACTS}
HEARTBEAT_S, SILENCE_S = 0.06, 0.2
WAIT_S = 10
RANDOM_FEEDS, MAX_CUTS = 20, 40


@dataclass(frozen=True)
class Feed:
    """How a stream comes to its reader: a piece ends at each cut, and the stream at `end`."""

    raw: bytes
    cuts: Sequence[int]
    end: int

    @property
    def pieces(self) -> list[bytes]:
        borders = [0, *self.cuts, self.end]
        return [self.raw[start:stop] for start, stop in pairwise(borders) if stop > start]


@dataclass(frozen=True)
class Told:
    """An event as the contract has it. Its block begins at `start`."""

    event: str | None
    data: str
    id: str | None
    last_id: str
    block: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.block)

    @cached_property
    def data_line(self) -> range:
        """Where its data line stands, without the line's end."""
        line = f"data: {self.data}"
        start = self.start + self.block.index(line)
        return range(start, start + len(line))


@dataclass(frozen=True)
class Recording:
    """A stream, what it tells, and what follows a resume: `rests` by last event id, all of it by an empty one."""

    contract: Contract
    raw: bytes
    told: Sequence[Told]
    rests: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def has_comments(self) -> bool:
        return b"\n:" in b"\n" + self.raw

    def feed_in_pieces(self) -> list[Feed]:
        """Whole, byte by byte, event by event, and in pieces of any size."""
        generator = random.Random(self.size)  # noqa: S311  # the same feeds for the same stream
        counts = [generator.randint(1, MAX_CUTS) for _ in range(RANDOM_FEEDS)]
        cuts: list[Sequence[int]] = [
            [],
            range(1, self.size),
            [told.end for told in self.told[:-1]],
            *(sorted(generator.sample(range(1, self.size), min(count, self.size - 1))) for count in counts),
        ]
        return [Feed(self.raw, some, self.size) for some in cuts]

    def feed_in_two(self) -> list[Feed]:
        """In two pieces, for every place between them."""
        return [Feed(self.raw, [place], self.size) for place in range(1, self.size)]

    def feed_a_part(self) -> list[Feed]:
        """Ended early, at every place."""
        return [Feed(self.raw, [], place) for place in range(1, self.size)]

    def feed_the_rests(self) -> list[Feed]:
        """What follows each resume."""
        return [Feed(rest, [], len(rest)) for rest in self.rests.values()]


def tell(contract: Contract, raw: bytes, entries: Sequence[Entry]) -> list[Told]:
    """What the stream has to tell: the frames of the log in their order, and heartbeats between them.

    Holds the bytes against the encoder's, block by block.
    """
    text, position = raw.decode("ascii"), 0
    told: list[Told] = []
    frames = [frame for entry in entries for frame in contract.encode(entry)]
    beats = [contract.heartbeat(stage, 0) for stage in (None, *Stage)]
    while position < len(text):
        opening = "" if position else contract.opening
        beat = next((beat for beat in beats if text.startswith(opening + beat, position)), None)
        frame = frames.pop(0) if beat is None else _parse_heartbeat(beat)
        block = opening + (frame.text if frame else beat or "")
        assert text.startswith(block, position), (block, text[position:])
        if frame:
            assert not isinstance(frame.data, str)
            last_id = frame.id or (told[-1].last_id if told else "")
            told.append(Told(frame.event, encode_json(frame.data), frame.id, last_id, block, position))
        position += len(block)
    assert frames == []
    return told


def _parse_heartbeat(text: str) -> Frame | None:
    """The frame of an encoder's heartbeat; None when it is a comment."""
    if text.startswith(":"):
        return None
    name, data = text.removeprefix("event: ").split("\ndata: ")
    frame = Frame(json.loads(data), event=name)
    assert frame.text == text
    return frame


# What is recorded


@dataclass(frozen=True)
class Recorder:
    """Records the stream of a request. Sent again, the request is about the same turn: it has a key."""

    zoo: RunningApp
    endpoint: ChatEndpoint
    post: Callable[[dict[str, str]], Coroutine[Any, Any, httpx.Response]]

    async def ask(self, last_id: str = "") -> httpx.Response:
        return await self.post({"Idempotency-Key": KEY} | ({"Last-Event-ID": last_id} if last_id else {}))

    async def finish(self, answer: httpx.Response) -> Recording:
        contract = CONTRACTS_BY_NAME[self.endpoint.name]
        assert answer.status_code == 200, answer.text
        entries = await self.zoo.services.event_log.list_entries(get_turn_id(answer))
        assert entries is not None
        told = tell(contract, answer.content, entries)
        points = [] if contract.is_bare else ["", *(each.id for each in told if each.id)]
        rests = {point: (await self.ask(point)).content for point in points}
        return Recording(contract, answer.content, told, rests)


async def _open(open_zoo: OpensZoo, endpoint: ChatEndpoint, provider: Provider, **settings: object) -> Recorder:
    zoo = await open_zoo(provider, clock=FakeClock(), **settings)
    chat = await open_endpoint(zoo, endpoint)
    return Recorder(zoo, endpoint, lambda headers: chat.post_message(**headers))


async def record_answered(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> Recording:
    """A reply with umlauts, emoji, line separators, and text that looks like an event stream."""
    recorder = await _open(open_zoo, endpoint, Says(*PIECES))
    return await recorder.finish(await recorder.ask())


async def record_failed(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> Recording:
    """The animal begins to speak, and its model breaks."""
    recorder = await _open(open_zoo, endpoint, Fails(OSError("no model"), *PIECES[:2]))
    return await recorder.finish(await recorder.ask())


async def record_silent(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> Recording:
    """Heartbeats in the middle of a reply."""
    provider = Waits(*PIECES)
    recorder = await _open(open_zoo, endpoint, provider, HEARTBEAT=HEARTBEAT_S)
    asking = asyncio.create_task(recorder.ask())
    await asyncio.wait_for(provider.has_begun.wait(), WAIT_S)
    asyncio.get_running_loop().call_later(SILENCE_S, provider.go.set)
    recording = await recorder.finish(await asking)
    assert recording.has_comments or any(told.event == "heartbeat" for told in recording.told)
    return recording


async def record_stopped(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> Recording:
    """Another message interrupts the reply."""
    async with open_talk(open_zoo, endpoint, clock=FakeClock()) as talk:
        recorder = Recorder(talk.zoo, endpoint, lambda headers: talk.post(GREETING, headers))
        first = await talk.begin(GREETING, headers={"Idempotency-Key": KEY})
        talk.answers.finish("Bye.")
        await talk.post("Bye.", onBusy="interrupt")
        return await recorder.finish(await first)


async def record_queued(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> Recording:
    """A message that has to wait for the one before."""
    async with open_talk(open_zoo, endpoint, clock=FakeClock()) as talk:
        recorder = Recorder(talk.zoo, endpoint, lambda headers: talk.post(GREETING, headers, onBusy="enqueue"))
        first = await talk.begin("one")
        second = await talk.enqueue(GREETING, headers={"Idempotency-Key": KEY}, onBusy="enqueue")
        talk.answers.finish("one", GREETING)
        await first
        return await recorder.finish(await second)


SCENARIOS = {
    "answered": record_answered,
    "failed": record_failed,
    "silent": record_silent,
    "stopped": record_stopped,
    "queued": record_queued,
}
