"""The event log of a process that shares it with others: its own turns in memory, and in Redis beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.event_logs.redis.connections import REDIS_ERRORS, TIMEOUT_S, Connections, shield
from openapi_server.event_logs.redis.entry_format import encode_entry
from openapi_server.event_logs.redis.mirrors import Mirrors
from openapi_server.event_logs.redis.publisher import GATHER_S, Publisher
from openapi_server.event_logs.redis.scripts import Keys
from openapi_server.models.turn_events import Entry, Failed, TurnEvent
from openapi_server.protocols import Clock, LogUnavailable, Signal, Tail

# How long a deletion, and the end of the process, wait for Redis, in seconds.
DELETE_WAIT_S, CLOSE_WAIT_S = 1.0, 2.0


class RedisEventLog:
    """Turns of this process are written to and read from memory, so only readers elsewhere depend on Redis."""

    def __init__(
        self,
        connections: Connections,
        clock: Clock,
        worker: str,
        *,
        replay_window_s: float = 600,
        max_turns: int = 10_000,
        lease_s: float = 30,
        gather_s: float = GATHER_S,
        prefix: str = "zoochat",
    ) -> None:
        keys = Keys(prefix)
        self._keys = keys
        self._clock = clock
        self._client = connections.reader
        self._memory = MemoryEventLog(
            clock, replay_window_s=replay_window_s, max_turns=max_turns, on_dropped=self._on_dropped
        )
        self._publisher = Publisher(
            connections.writer,
            keys,
            clock,
            worker,
            self._memory.list_entries,
            lambda turn_id: self._on_signal(Signal.FENCED, turn_id),
            lease_s=lease_s,
            replay_window_s=replay_window_s,
            gather_s=gather_s,
        )
        self.mirrors = Mirrors(connections.reader, connections.listener, keys, clock, replay_window_s)
        self.mirrors.listen(self._take_signal)
        self._channel = keys.get_process_channel(worker)
        self._on_signal: Callable[[Signal, str], None] = lambda signal, turn_id: None

    is_shared = True

    @property
    def turn_count(self) -> int:
        """How many turns of this process have a log in memory now."""
        return self._memory.turn_count

    @property
    def waiting_count(self) -> int:
        """How many entries Redis does not have yet."""
        return self._publisher.waiting_count

    @property
    def mirror_count(self) -> int:
        """How many turns of other processes are read here."""
        return self.mirrors.count

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Write, hear and watch; at the end all is written, if Redis is there."""
        subscription = self.mirrors.subscription
        subscription.add(self._channel)
        jobs = [asyncio.create_task(job) for job in (self._publisher.run(), subscription.run(), self.mirrors.watch())]
        try:
            await subscription.wait_until_up(TIMEOUT_S)
            yield
        finally:
            await self._publisher.flush(CLOSE_WAIT_S)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await self.mirrors.close()

    async def flush(self, wait_s: float = CLOSE_WAIT_S) -> bool:
        """Wait until other processes can read all that was appended. False when that took longer."""
        return await self._publisher.flush(wait_s)

    async def create(self, turn_id: str) -> None:
        await self._memory.create(turn_id)
        self._publisher.begin(turn_id)

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        entries = await self._memory.append(turn_id, events)
        self._publisher.add(turn_id, entries)
        return entries

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        entries = await self._memory.list_entries(turn_id)
        return await self.mirrors.list_entries(turn_id) if entries is None else entries

    async def open_tail(self, turn_id: str, after: int = 0) -> Tail | None:
        tail = await self._memory.open_tail(turn_id, after)
        return await self.mirrors.open_tail(turn_id, after) if tail is None else tail

    async def delete(self, turn_id: str) -> None:
        await self._memory.delete(turn_id)
        self._publisher.delete(turn_id)
        await self._publisher.flush(DELETE_WAIT_S)

    async def end(self, turn_id: str, event: Failed) -> None:
        self._publisher.end(turn_id, encode_entry(self._clock.now(), event))

    def renew(self, turn_ids: Sequence[str]) -> None:
        self._publisher.renew(turn_ids)

    async def signal(self, turn_id: str, signal: Signal) -> bool:
        try:
            owner = await self.mirrors.find_owner(turn_id)
            if owner is None:
                return False
            message = f"{signal} {turn_id}"
            return bool(await shield(self._client.publish(self._keys.get_process_channel(owner), message)))
        except (LogUnavailable, *REDIS_ERRORS):
            return False

    def listen(self, on_signal: Callable[[Signal, str], None]) -> None:
        self._on_signal = on_signal

    def list_quiet(self, quiet_s: float) -> Sequence[str]:
        return self.mirrors.list_quiet(quiet_s)

    def cut_off(self) -> None:
        self.mirrors.cut_off()

    def _take_signal(self, kind: str, turn_id: str) -> None:
        # A later version may say more.
        if kind in (Signal.STOP, Signal.READ, Signal.DELETE):
            self._on_signal(Signal(kind), turn_id)

    def _on_dropped(self, turn_id: str) -> None:
        self._publisher.delete(turn_id)


@asynccontextmanager
async def open_redis_log(connections: Connections, log: RedisEventLog) -> AsyncIterator[RedisEventLog]:
    """The log, checked and running. Raises `ConfigError` when Redis refuses this server."""
    try:
        await connections.check()
        async with log.run():
            yield log
    finally:
        await connections.close()
