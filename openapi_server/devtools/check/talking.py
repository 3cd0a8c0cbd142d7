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
from openapi_server.devtools.check.polling import POLL_INTERVALS_S, PolledState
from openapi_server.devtools.check.recording import (
    TURN_WITHIN_S,
    EventPredicate,
    Recording,
    RequestSpec,
    StreamRecorder,
)
from openapi_server.devtools.check.site import AsyncCached, TargetServer
from openapi_server.devtools.check.streams import SseEvent, StreamRules

S = TypeVar("S")
T = TypeVar("T")

QUESTION = "What do you eat, and how fast can you run?"
# Requests that a check has under way at the same time.
MAX_CONCURRENT = 4


class ContractClient(ABC):
    """Talks with a server in one contract. A contract's own class says what its requests look like."""

    contract: ClassVar[str]
    operation: ClassVar[str]

    def __init__(self, site: TargetServer) -> None:
        self.server = site
        self.rules = StreamRules.from_spec(site.spec, self.operation)
        # The visitor of the recorded stream, who comes without a cookie; and somebody else for all the rest.
        self.client = site.new_client()
        self.other_client = site.new_client()
        self._key = str(uuid.uuid4())
        self.get_request = AsyncCached(self._make_first_request)
        self.get_recording = AsyncCached(self._record)

    @abstractmethod
    async def make_request(self, message: str) -> RequestSpec:
        """The request that begins a turn, in a session of its own."""

    @abstractmethod
    def change_message(self, ask: RequestSpec) -> RequestSpec:
        """The same request with another message."""

    def make_resume_request(self, ask: RequestSpec, turn_id: str, event_id: str) -> RequestSpec:
        """The request that resumes a turn: the same again, with the last event that was seen."""
        return ask.with_headers(Last_Event_ID=event_id)

    def keep_running(self, ask: RequestSpec) -> RequestSpec:
        """The same request for a turn that goes on for a while when its reader leaves."""
        return ask

    async def make_session_request(self) -> RequestSpec:
        """A request in a session that takes one turn at a time."""
        return await self.make_request(QUESTION)

    def add_idempotency_key(self, ask: RequestSpec) -> RequestSpec:
        return ask.with_headers(Idempotency_Key=self._key)

    def new_recorder(self, has_enough: EventPredicate = lambda events: False) -> StreamRecorder:
        return StreamRecorder(self.server.heartbeat_s, self._is_complete, has_enough)

    async def send(self, ask: RequestSpec, visitor: httpx.AsyncClient | None = None) -> httpx.Response:
        """The whole answer to a request."""
        client = visitor or self.other_client
        return await client.send(ask.build_request(client))

    async def send_for_head(self, ask: RequestSpec) -> httpx.Response:
        """How a request is answered; a refusal is read, but nothing of a stream."""
        answer = await self.other_client.send(ask.build_request(self.other_client), stream=True)
        if answer.status_code != 200:
            await answer.aread()
        await answer.aclose()
        return answer

    async def act_while_running(
        self, ask: RequestSpec, act: Callable[[str], Awaitable[T]]
    ) -> tuple[T, Recording, float]:
        """Do something about a turn while it runs; what came of it, the whole stream, and when it was done."""
        reading = self.new_recorder()
        turn_id = await reading.open(self.other_client, ask)
        listening = asyncio.ensure_future(reading.read_to_end())
        try:
            result = await act(turn_id)
            acted_s = time.monotonic()
            return result, await listening, acted_s
        finally:
            listening.cancel()

    async def poll(
        self, path: str, is_finished: Callable[[PolledState], bool], visitor: httpx.AsyncClient | None = None
    ) -> list[PolledState]:
        """Look at it again and again, until it is over; all that was seen."""
        ask = RequestSpec(path, method="GET")
        seen: list[PolledState] = []
        deadline_s = time.monotonic() + TURN_WITHIN_S
        while not seen or not is_finished(seen[-1]):
            require(time.monotonic() < deadline_s, f"GET {path}: not over within {TURN_WITHIN_S:.0f} s")
            answer = await self.send(ask, visitor)
            require(answer.status_code == 200, f"GET {path}: {answer.status_code}, not 200")
            seen.append(answer.json())
            await asyncio.sleep(POLL_INTERVALS_S[min(len(seen), len(POLL_INTERVALS_S)) - 1])
        return seen

    async def run_for_each(self, work: Callable[[S], Awaitable[T]], of: Iterable[S]) -> list[T]:
        """Do this for each of them, a few at a time; the first failure ends the rest."""
        places = asyncio.Semaphore(MAX_CONCURRENT)

        async def in_turn(one: S) -> T:
            async with places:
                return await work(one)

        tasks = [asyncio.ensure_future(in_turn(one)) for one in of]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _make_first_request(self) -> RequestSpec:
        return await self.make_request(QUESTION)

    async def _record(self) -> Recording:
        ask = self.add_idempotency_key(await self.get_request())
        recording = await self.new_recorder().record(self.client, ask)
        require(recording.status == 200, f"POST {ask.path}: {recording.status} {recording.body[:120]!r}")
        kind = recording.headers.get("content-type", "")
        require(recording.events, f"POST {ask.path}: no events in {recording.body[:40]!r}, {kind}; {recording.end}")
        return recording

    def _is_complete(self, events: list[SseEvent]) -> bool:
        return any(map(self.rules.is_terminal, events))
