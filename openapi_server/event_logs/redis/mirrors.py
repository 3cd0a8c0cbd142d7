"""Reads the turns of other processes: a copy of each that is read here, in memory, with any number of readers.

A copy is filled from the stream and kept up to date by what its owner publishes. Each message has its entries' numbers:
what is known is dropped, and at a gap the stream is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis

from openapi_server.event_logs.memory import WAKES_PER_ROUND, WAKES_S_PER_ROUND, MemoryTail, TurnLog
from openapi_server.event_logs.redis.connections import REDIS_ERRORS, Subscription, shield
from openapi_server.event_logs.redis.entry_format import UnreadableEntry, decode_entry
from openapi_server.event_logs.redis.scripts import READ, Keys
from openapi_server.models.errors import SessionDeleted, TurnElsewhere
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn_events import Entry, Failed
from openapi_server.protocols import Clock, EntryAhead, HistoryLost, LogUnavailable
from openapi_server.round_queue import RoundQueue

# How long a reader waits for entries that it has seen elsewhere, in seconds.
AHEAD_WAIT_S = 1.0
# A turn that could not be read for this long is given up, and its readers are told to poll.
LOST_AFTER_S = 10.0
WATCH_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A log as Redis has it, from an entry on. `ending`: how the turn ended, where another process tells it."""

    owner: str
    last_seq: int
    is_closed: bool
    ending: Entry | None
    entries: tuple[Entry, ...]


@dataclass(slots=True, eq=False)
class Mirror:
    """The copy of one turn. `pending` are messages that came while the stream was read.

    `loaded` is set when the copy was filled for the first time; False when there is no log. `is_live`: its channel is
    heard. `unread_since_s`: since when the stream could not be read, by the monotonic clock. `heard_s`: when the last
    entry came.
    """

    turn_id: str
    log: TurnLog
    loaded: asyncio.Future[bool]
    heard_s: float
    owner: str = ""
    tail_count: int = 0
    is_live: bool = False
    is_subscribed: bool = False
    is_syncing: bool = False
    pending: list[tuple[int, list[bytes]]] = field(default_factory=list)
    unread_since_s: float | None = None

    @property
    def last_seq(self) -> int:
        return len(self.log.entries)


class MirrorTail(MemoryTail):
    """A reader's position in a copy, which is kept for as long as it has readers."""

    def __init__(self, mirror: Mirror, after: int, on_close: Callable[[Mirror], None]) -> None:
        super().__init__(mirror.log, after)
        self._mirror: Mirror | None = mirror
        self._on_close = on_close

    def close(self) -> None:
        super().close()
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            self._on_close(mirror)


class Mirrors:
    """The turns of other processes that are read here. `replay_window_s`: how long an ended one can be read."""

    def __init__(self, client: Redis, listener: Redis, keys: Keys, clock: Clock, replay_window_s: float) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._replay_window_s = replay_window_s
        self._read_script = client.register_script(READ)
        self._queue = RoundQueue(WAKES_PER_ROUND, WAKES_S_PER_ROUND)
        self._mirrors: dict[str, Mirror] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_signal: Callable[[str, str], None] = lambda kind, turn_id: None
        self.subscription = Subscription(listener, self._take_message, self._on_subscribed)

    @property
    def count(self) -> int:
        return len(self._mirrors)

    def get_mirror(self, turn_id: str) -> Mirror | None:
        return self._mirrors.get(turn_id)

    async def open_tail(self, turn_id: str, after: int) -> MirrorTail | None:
        """Raises `EntryAhead`, `HistoryLost`, or `LogUnavailable` while Redis cannot be read."""
        mirror = self._mirrors.get(turn_id) or self._begin(turn_id)
        mirror.tail_count += 1
        tail = MirrorTail(mirror, after, self._leave)
        try:
            if not await asyncio.shield(mirror.loaded) or self._is_gone(mirror):
                tail.close()
                return None
            await self._wait_for_entry(mirror, after)
            if tail.is_over and mirror.log.ending is not None:
                # What the reader has seen is all that there was, or more: it cannot be told the rest.
                raise HistoryLost
        except BaseException:
            tail.close()
            raise
        return tail

    async def _wait_for_entry(self, mirror: Mirror, after: int) -> None:
        """Wait for an entry that the reader has seen elsewhere, and that is on its way here."""
        if after <= mirror.last_seq:
            return
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + AHEAD_WAIT_S
        probe = MemoryTail(mirror.log, mirror.last_seq)
        try:
            while mirror.last_seq < after and not mirror.log.is_closed and loop.time() < deadline_s:
                await probe.read(deadline_s - loop.time())
        finally:
            probe.close()
        if mirror.last_seq >= after or mirror.log.ending is not None:
            return
        # An owner that lives has published all that it has shown. One that is dead may have shown more.
        if mirror.log.is_closed or await self._is_alive(mirror.owner):
            raise EntryAhead

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        """Raises `HistoryLost` or `LogUnavailable`."""
        mirror = self._mirrors.get(turn_id)
        if mirror is not None and mirror.loaded.done() and mirror.unread_since_s is None:
            return None if self._is_gone(mirror) else tuple(mirror.log.entries)
        stored = await self._read(turn_id, 1)
        return None if stored is None or self._has_expired(stored.entries) else stored.entries

    async def find_owner(self, turn_id: str) -> str | None:
        """The process that runs the turn. Raises `LogUnavailable`."""
        mirror = self._mirrors.get(turn_id)
        if mirror is not None and mirror.owner:
            return mirror.owner
        _, state = self._keys.get_turn_keys(turn_id)
        try:
            owner = await shield(self._client.hget(state, "owner"))
        except REDIS_ERRORS:
            raise LogUnavailable from None
        return owner.decode() if owner else None

    async def _is_alive(self, owner: str) -> bool:
        """Whether the process hears its channel now."""
        channel = self._keys.get_process_channel(owner)
        try:
            ((_, count),) = await shield(self._client.pubsub_numsub(channel))
        except REDIS_ERRORS:
            return False
        return bool(count)

    def list_quiet(self, quiet_s: float) -> list[str]:
        """The ids of the turns of which nothing has come for that long, and that have not ended here."""
        oldest_s = self._clock.monotonic() - quiet_s
        return [
            turn_id
            for turn_id, mirror in self._mirrors.items()
            if mirror.is_live and mirror.heard_s <= oldest_s and not mirror.log.is_closed
        ]

    def end(self, turn_id: str, event: Failed) -> None:
        """Tell the readers here how the turn ended, where that is not in its log."""
        mirror = self._mirrors.get(turn_id)
        if mirror is not None and not mirror.log.is_closed:
            mirror.log.ending = event
            mirror.log.wake()

    def cut_off(self) -> None:
        """End all reading: this process ends."""
        for mirror in self._mirrors.values():
            mirror.log.is_cut_off = True
            mirror.log.wake()

    async def watch(self) -> None:
        """Give up turns that can no longer be read, for ever."""
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = self._clock.monotonic()
            for mirror in list(self._mirrors.values()):
                if not mirror.is_live or mirror.log.is_closed:
                    continue
                if not self.subscription.is_up and mirror.unread_since_s is None:
                    mirror.unread_since_s = now_s
                if mirror.unread_since_s is None:
                    continue
                if now_s - mirror.unread_since_s > LOST_AFTER_S:
                    log.warning("event_log_lost", turn=shorten_id(mirror.turn_id))
                    error = TurnElsewhere("The turn's events cannot be read here. Poll its state.")
                    self.end(mirror.turn_id, Failed(error.problem))
                elif self.subscription.is_up:
                    self._sync(mirror)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, turn_id: str) -> Mirror:
        loaded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        mirror = self._mirrors[turn_id] = Mirror(turn_id, TurnLog(self._queue), loaded, self._clock.monotonic())
        self._run(self._load(mirror))
        return mirror

    def _leave(self, mirror: Mirror) -> None:
        mirror.tail_count -= 1
        if mirror.tail_count == 0 and self._mirrors.get(mirror.turn_id) is mirror:
            del self._mirrors[mirror.turn_id]
            if mirror.is_subscribed:
                self._run(self._unsubscribe(mirror.turn_id))

    async def _unsubscribe(self, turn_id: str) -> None:
        # Where the connection is lost, its subscriptions are, too.
        with suppress(*REDIS_ERRORS):
            await self.subscription.unsubscribe(self._keys.get_channel(turn_id))

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, mirror: Mirror) -> None:
        """Fill a new copy: at once if the turn has ended, else behind what Redis acknowledges to send from now on."""
        try:
            is_there = await self._fill(mirror)
            if is_there and not mirror.log.is_closed:
                # What arrives from now on waits until the stream was read.
                mirror.is_syncing = True
                await self.subscription.subscribe(self._keys.get_channel(mirror.turn_id))
                if self._mirrors.get(mirror.turn_id) is not mirror:
                    # All readers have left meanwhile.
                    await self._unsubscribe(mirror.turn_id)
                    return
                mirror.is_live = mirror.is_subscribed = True
                await self._catch_up(mirror)
            self._resolve(mirror, is_there)
        except (HistoryLost, LogUnavailable) as error:
            self._resolve(mirror, error)
        except REDIS_ERRORS:
            self._resolve(mirror, LogUnavailable())

    def _resolve(self, mirror: Mirror, result: bool | Exception) -> None:
        if isinstance(result, Exception) or not result:
            # The next reader looks again.
            self._forget(mirror)
        if mirror.loaded.done():
            return
        if isinstance(result, Exception):
            mirror.loaded.set_exception(result)
            mirror.loaded.exception()  # there may be nobody left who waits for it
        else:
            mirror.loaded.set_result(result)

    def _forget(self, mirror: Mirror) -> None:
        if self._mirrors.get(mirror.turn_id) is mirror:
            del self._mirrors[mirror.turn_id]

    async def _fill(self, mirror: Mirror) -> bool:
        """Add what the stream has behind the copy's last entry. False when there is no log."""
        first = mirror.last_seq + 1
        stored = await self._read(mirror.turn_id, first)
        if stored is None:
            return False
        mirror.owner = stored.owner
        if stored.ending is None and stored.last_seq < first - 1:
            # Redis has fallen back to an earlier state. The owner writes again what is missing.
            raise HistoryLost
        self._add(mirror, stored.entries)
        if stored.ending is not None and isinstance(stored.ending.event, Failed) and not mirror.log.is_closed:
            mirror.log.ending = stored.ending.event
            mirror.log.wake()
        return True

    def _add(self, mirror: Mirror, entries: Sequence[Entry]) -> None:
        fresh = [entry for entry in entries if entry.seq > mirror.last_seq]
        if not fresh or mirror.log.is_closed:
            return
        mirror.heard_s = self._clock.monotonic()
        mirror.log.entries.extend(fresh)
        if fresh[-1].event.is_terminal:
            mirror.log.closed_at_s = mirror.heard_s
        mirror.log.wake()

    def _sync(self, mirror: Mirror) -> None:
        if not mirror.is_syncing:
            mirror.is_syncing = True
            self._run(self._catch_up(mirror))

    async def _catch_up(self, mirror: Mirror) -> None:
        """Read the stream behind what is known, then add what was published meanwhile."""
        try:
            while True:
                pending = mirror.pending
                mirror.pending = []
                is_there = await self._fill(mirror)
                pending += mirror.pending
                mirror.pending = []
                if not is_there:
                    raise HistoryLost
                mirror.unread_since_s = None
                if all(self._add_message(mirror, first, lines) for first, lines in pending):
                    return
        except (HistoryLost, LogUnavailable):
            if mirror.unread_since_s is None:
                mirror.unread_since_s = self._clock.monotonic()
        finally:
            mirror.is_syncing = False

    def _add_message(self, mirror: Mirror, first: int, lines: Sequence[bytes]) -> bool:
        """Add published entries, but for known ones. False at a gap."""
        known = mirror.last_seq
        if mirror.log.is_closed:
            return True
        if first > known + 1:
            return False
        try:
            decoded = [
                decode_entry(mirror.turn_id, first + n, line) for n, line in enumerate(lines) if first + n > known
            ]
        except UnreadableEntry:
            log.warning("event_log_unreadable", turn=shorten_id(mirror.turn_id))
            error = TurnElsewhere("Another version of the server runs the turn. Poll its state.")
            self.end(mirror.turn_id, Failed(error.problem))
            return True
        self._add(mirror, decoded)
        return True

    def _on_subscribed(self, channel: str) -> None:
        turn_id = self._keys.parse_channel(channel)
        mirror = self._mirrors.get(turn_id) if turn_id else None
        if mirror is not None and mirror.is_live:
            # Not for the first time: the connection was lost, and with it what was published meanwhile.
            self._sync(mirror)

    def _take_message(self, channel: str, data: bytes) -> None:
        turn_id = self._keys.parse_channel(channel)
        if turn_id is None:
            kind, _, turn_id = data.decode(errors="replace").partition(" ")
            self._on_signal(kind, turn_id)
            return
        mirror = self._mirrors.get(turn_id)
        if mirror is None:
            return
        head, *lines = data.split(b"\n")
        kind, _, first = head.decode(errors="replace").partition(" ")
        if kind == "deleted":
            self.end(turn_id, Failed(SessionDeleted().problem))
            mirror.log.is_deleted = True
        elif kind == "ending":
            self._sync(mirror)
        elif kind == "entries" and mirror.is_syncing:
            mirror.pending.append((int(first), lines))
        elif kind == "entries" and not self._add_message(mirror, int(first), lines):
            mirror.pending.append((int(first), lines))
            self._sync(mirror)

    def listen(self, on_signal: Callable[[str, str], None]) -> None:
        """Set the function that is called with what other processes ask of this one, as a kind and a turn's id."""
        self._on_signal = on_signal

    async def _read(self, turn_id: str, first: int) -> StoredLog | None:
        """The log from that entry on; None when there is none. Raises `HistoryLost` where entries are missing."""
        if not self.subscription.is_up:
            raise LogUnavailable
        try:
            state, items = await shield(self._read_script(keys=self._keys.get_turn_keys(turn_id), args=[first]))
        except REDIS_ERRORS:
            raise LogUnavailable from None
        owner, last, closed, ending, deleted = state
        if deleted or (not owner and not items):
            return None
        try:
            entries = [decode_entry(turn_id, int(key.split(b"-")[0]), fields[1]) for key, fields in items]
            told = decode_entry(turn_id, 0, ending) if ending else None
        except UnreadableEntry:
            raise LogUnavailable from None
        last_seq = int(last or 0)
        if [entry.seq for entry in entries] != list(range(first, max(first - 1, last_seq) + 1)):
            raise HistoryLost
        return StoredLog((owner or b"").decode(), last_seq, bool(closed), told, tuple(entries))

    def _is_gone(self, mirror: Mirror) -> bool:
        """For new readers: those that have begun read to the end."""
        return mirror.log.is_deleted or self._has_expired(mirror.log.entries)

    def _has_expired(self, entries: Sequence[Entry]) -> bool:
        """Redis deletes old logs by its own clock; the window is this server's."""
        if not entries or not entries[-1].event.is_terminal:
            return False
        return (self._clock.now() - entries[-1].at).total_seconds() >= self._replay_window_s
