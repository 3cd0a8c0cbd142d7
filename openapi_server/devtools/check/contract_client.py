"""Clients of the checked server: its HTTP clients and accounts, and how one contract's requests are sent."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import httpx

from openapi_server.devtools.check.recording import (
    READ_MARGIN_S,
    TURN_TIMEOUT_S,
    EventPredicate,
    Recording,
    RequestSpec,
    StreamRecorder,
)
from openapi_server.devtools.check.responses import PolledState
from openapi_server.devtools.check.stream_rules import SseEvent, StreamRules, require

S = TypeVar("S")
T = TypeVar("T")

QUESTION = "What do you eat, and how fast can you run?"
# How many requests one check sends at the same time.
MAX_CONCURRENT = 4
# The longest silence of a stream that any source document allows.
MAX_SILENCE_S = 120.0
# Seconds between polls; short at first, to see states that do not last.
POLL_INTERVALS_S = (0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account's name and password. The password is never part of a finding."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class CheckAccounts:
    """The accounts: a user who chats, an administrator who gives the user credits, and an unrelated user."""

    user: Credentials
    admin: Credentials
    other_user: Credentials


@dataclass(frozen=True)
class TargetServer:
    """The server to check, with its OpenAPI spec. `heartbeat_s`: the longest silence that it promises on a stream."""

    url: str
    spec: Mapping[str, Any]
    heartbeat_s: float
    accounts: CheckAccounts

    def has_operation(self, path: str, method: str = "post") -> bool:
        return method in self.spec["paths"].get(path, {})

    def new_client(self) -> httpx.AsyncClient:
        """An HTTP client with an empty cookie jar: a new visitor."""
        timeout = httpx.Timeout(10, read=max(self.heartbeat_s, MAX_SILENCE_S) + 2 * READ_MARGIN_S)
        client = httpx.AsyncClient(base_url=self.url, timeout=timeout, verify=self._ssl_context, trust_env=False)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close all clients."""
        await asyncio.gather(*(client.aclose() for client in self._clients))

    @cached_property
    def _clients(self) -> list[httpx.AsyncClient]:
        return []

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        # Shared: otherwise each client reads all CA certificates again.
        return httpx.create_ssl_context()


class AsyncCached(Generic[T]):
    """The result of a coroutine that many checks need: made by the first call, shared with all later ones."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._future: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        if self._future is None:
            self._future = asyncio.ensure_future(self._make())
        return await asyncio.shield(self._future)


class ContractClient(ABC):
    """Sends requests of one contract. A subclass for each contract says what they look like.

    `get_recording` gives the one recorded stream that most checks of a contract look at; `get_resumable_recording` the
    one that is resumed, which is another one where streams are bare unless their client means to resume them.
    """

    contract: ClassVar[str]
    operation: ClassVar[str]
    # The longest silence of a stream that the contract's source document allows, in seconds.
    max_silence_s: ClassVar[float] = 30.0

    def __init__(self, server: TargetServer) -> None:
        self.server = server
        self.rules = StreamRules.from_spec(server.spec, self.operation)
        # The visitor of the recorded stream, who comes without a cookie, and another one for all other requests.
        self.client = server.new_client()
        self.other_client = server.new_client()
        self._key = str(uuid.uuid4())
        self.get_request = AsyncCached(self._make_first_request)
        self.get_recording = AsyncCached(self._record)
        self.get_resumable_request = AsyncCached(self._make_resumable_request)
        self.get_resumable_recording = AsyncCached(self._record_resumable)

    @abstractmethod
    async def make_request(self, message: str) -> RequestSpec:
        """A request that starts a turn in a session of its own."""

    @abstractmethod
    def change_message(self, request: RequestSpec) -> RequestSpec:
        """The same request with another message."""

    def make_resume_request(self, request: RequestSpec, turn_id: str, event_id: str) -> RequestSpec:
        """The request that resumes a turn after an event: in most contracts the same one with `Last-Event-ID`."""
        return request.with_headers(Last_Event_ID=event_id)

    def keep_running(self, request: RequestSpec) -> RequestSpec:
        """The same request, for a turn that goes on for a while after its reader has left."""
        return request

    def refuse_when_busy(self, request: RequestSpec) -> RequestSpec:
        """The same request, refused while the session has a running turn."""
        return request

    async def make_session_request(self) -> RequestSpec:
        """A request in a session that allows one turn at a time."""
        return await self.make_request(QUESTION)

    def add_idempotency_key(self, request: RequestSpec) -> RequestSpec:
        return request.with_headers(Idempotency_Key=self._key)

    def new_recorder(
        self, should_stop: EventPredicate = lambda events: False, *, silence_s: float | None = None
    ) -> StreamRecorder:
        """A recorder that gives up after `silence_s` without a byte: by default the longest silence that is allowed."""
        longest_s = max(self.server.heartbeat_s, self.max_silence_s)
        return StreamRecorder(longest_s if silence_s is None else silence_s, self._is_complete, should_stop)

    async def send(self, request: RequestSpec, client: httpx.AsyncClient | None = None) -> httpx.Response:
        """The whole answer to a request."""
        client = client or self.other_client
        return await client.send(request.build_request(client))

    async def send_for_head(self, request: RequestSpec) -> httpx.Response:
        """The answer without its body if it is a 200, which may be a stream; with its body otherwise."""
        answer = await self.other_client.send(request.build_request(self.other_client), stream=True)
        if answer.status_code != 200:
            await answer.aread()
        await answer.aclose()
        return answer

    async def act_while_running(
        self, request: RequestSpec, act: Callable[[str], Awaitable[T]]
    ) -> tuple[T, Recording, float]:
        """Start a turn and call `act` with its id. Returns its result, the recording, and when `act` was done."""
        recorder = self.new_recorder()
        turn_id = await recorder.open(self.other_client, request)
        reading = asyncio.ensure_future(recorder.read_to_end())
        try:
            result = await act(turn_id)
            acted_s = time.monotonic()
            return result, await reading, acted_s
        finally:
            reading.cancel()

    async def poll(
        self, path: str, is_finished: Callable[[PolledState], bool], client: httpx.AsyncClient | None = None
    ) -> list[PolledState]:
        """Poll until the state is finished; returns all states that were seen."""
        request = RequestSpec(path, method="GET")
        states: list[PolledState] = []
        deadline_s = time.monotonic() + TURN_TIMEOUT_S
        while not states or not is_finished(states[-1]):
            require(time.monotonic() < deadline_s, f"GET {path}: not finished within {TURN_TIMEOUT_S:.0f} s")
            answer = await self.send(request, client)
            require(answer.status_code == 200, f"GET {path}: {answer.status_code}, not 200")
            states.append(answer.json())
            await asyncio.sleep(POLL_INTERVALS_S[min(len(states), len(POLL_INTERVALS_S)) - 1])
        return states

    async def run_for_each(self, work: Callable[[S], Awaitable[T]], items: Iterable[S]) -> list[T]:
        """Call `work` with each item, `MAX_CONCURRENT` at a time. The first failure cancels the others."""
        slots = asyncio.Semaphore(MAX_CONCURRENT)

        async def run(item: S) -> T:
            async with slots:
                return await work(item)

        tasks = [asyncio.ensure_future(run(item)) for item in items]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _make_first_request(self) -> RequestSpec:
        return await self.make_request(QUESTION)

    async def _make_resumable_request(self) -> RequestSpec:
        if not self.rules.is_bare_by_default:
            return await self.get_request()
        return self.keep_running(await self.make_request(QUESTION))

    async def _record(self) -> Recording:
        return await self._record_answer(self.add_idempotency_key(await self.get_request()))

    async def _record_resumable(self) -> Recording:
        # First, so that the visitor has a cookie.
        recording = await self.get_recording()
        if not self.rules.is_bare_by_default:
            return recording
        return await self._record_answer(await self.get_resumable_request())

    async def _record_answer(self, request: RequestSpec) -> Recording:
        recording = await self.new_recorder().record(self.client, request)
        where = f"POST {request.path}"
        require(recording.status == 200, f"{where}: {recording.status} {recording.body[:120]!r}")
        media_type = recording.headers.get("content-type", "")
        require(recording.events, f"{where}: no events in {recording.body[:40]!r}, {media_type}; {recording.end}")
        return recording

    def _is_complete(self, events: list[SseEvent]) -> bool:
        return any(map(self.rules.is_terminal, events))
