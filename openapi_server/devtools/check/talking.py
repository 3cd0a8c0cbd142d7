"""How one contract is talked with: its requests, its visitors, and the one recorded stream that all checks share."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, TypeVar

import httpx

from openapi_server.devtools.check.findings import require
from openapi_server.devtools.check.polling import LOOKS_S, State
from openapi_server.devtools.check.recording import TURN_WITHIN_S, Ask, Reading, Recording, SeesEnd
from openapi_server.devtools.check.site import Once, Site
from openapi_server.devtools.check.streams import SseEvent, StreamRules

S = TypeVar("S")
T = TypeVar("T")

QUESTION = "What do you eat, and how fast can you run?"
# Requests that a check has under way at the same time.
AT_ONCE = 4


class Talking(ABC):
    """Talks with a server in one contract. A contract's own class says what its requests look like."""

    contract: ClassVar[str]
    operation: ClassVar[str]

    def __init__(self, site: Site) -> None:
        self.site = site
        self.rules = StreamRules.from_spec(site.spec, self.operation)
        # The visitor of the recorded stream, who comes without a cookie; and somebody else for all the rest.
        self.visitor = site.visitor()
        self.neighbour = site.visitor()
        self._key = str(uuid.uuid4())
        self.asked = Once(self._ask)
        self.recorded = Once(self._record)

    @abstractmethod
    async def ask(self, message: str) -> Ask:
        """The request that begins a turn, in a session of its own."""

    @abstractmethod
    def other(self, ask: Ask) -> Ask:
        """The same request with another message."""

    def again(self, ask: Ask, turn_id: str, event_id: str) -> Ask:
        """The request that resumes a turn: the same again, with the last event that was seen."""
        return ask.having(Last_Event_ID=event_id)

    def lasting(self, ask: Ask) -> Ask:
        """The same request for a turn that goes on for a while when its reader leaves."""
        return ask

    async def in_session(self) -> Ask:
        """A request in a session that takes one turn at a time."""
        return await self.ask(QUESTION)

    def with_key(self, ask: Ask) -> Ask:
        return ask.having(Idempotency_Key=self._key)

    def reading(self, has_enough: SeesEnd = lambda events: False) -> Reading:
        return Reading(self.site.heartbeat_s, self._is_over, has_enough)

    async def send(self, ask: Ask, visitor: httpx.AsyncClient | None = None) -> httpx.Response:
        """The whole answer to a request."""
        client = visitor or self.neighbour
        return await client.send(ask.request(client))

    async def head(self, ask: Ask) -> httpx.Response:
        """How a request is answered; a refusal is read, but nothing of a stream."""
        answer = await self.neighbour.send(ask.request(self.neighbour), stream=True)
        if answer.status_code != 200:
            await answer.aread()
        await answer.aclose()
        return answer

    async def while_it_runs(self, ask: Ask, act: Callable[[str], Awaitable[T]]) -> tuple[T, Recording, float]:
        """Do something about a turn while it runs; what came of it, the whole stream, and when it was done."""
        reading = self.reading()
        turn_id = await reading.open(self.neighbour, ask)
        listening = asyncio.ensure_future(reading.to_end())
        try:
            result = await act(turn_id)
            acted_s = time.monotonic()
            return result, await listening, acted_s
        finally:
            listening.cancel()

    async def poll(
        self, path: str, is_over: Callable[[State], bool], visitor: httpx.AsyncClient | None = None
    ) -> list[State]:
        """Look at it again and again, until it is over; all that was seen."""
        ask = Ask(path, method="GET")
        seen: list[State] = []
        deadline_s = time.monotonic() + TURN_WITHIN_S
        while not seen or not is_over(seen[-1]):
            require(time.monotonic() < deadline_s, f"GET {path}: not over within {TURN_WITHIN_S:.0f} s")
            answer = await self.send(ask, visitor)
            require(answer.status_code == 200, f"GET {path}: {answer.status_code}, not 200")
            seen.append(answer.json())
            await asyncio.sleep(LOOKS_S[min(len(seen), len(LOOKS_S)) - 1])
        return seen

    async def each(self, work: Callable[[S], Awaitable[T]], of: Iterable[S]) -> list[T]:
        """Do this for each of them, a few at a time; the first failure ends the rest."""
        places = asyncio.Semaphore(AT_ONCE)

        async def in_turn(one: S) -> T:
            async with places:
                return await work(one)

        tasks = [asyncio.ensure_future(in_turn(one)) for one in of]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _ask(self) -> Ask:
        return await self.ask(QUESTION)

    async def _record(self) -> Recording:
        ask = self.with_key(await self.asked())
        recording = await self.reading().of(self.visitor, ask)
        require(recording.status == 200, f"POST {ask.path}: {recording.status} {recording.body[:120]!r}")
        kind = recording.headers.get("content-type", "")
        require(recording.events, f"POST {ask.path}: no events in {recording.body[:40]!r}, {kind}; {recording.end}")
        return recording

    def _is_over(self, events: list[SseEvent]) -> bool:
        return any(map(self.rules.is_terminal, events))
