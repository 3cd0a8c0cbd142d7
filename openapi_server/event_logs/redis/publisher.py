"""Writes the logs of this process's turns to Redis, beside the turns: nobody here waits for it.

What is appended within a few milliseconds is sent together, the turns of the process in one round trip. What could not
be sent is sent again: the numbers of the entries make that harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError

from openapi_server.event_logs.redis.connections import FIRST_PAUSE_S, LONGEST_PAUSE_S
from openapi_server.event_logs.redis.entry_format import encode_entry
from openapi_server.event_logs.redis.scripts import APPEND, DELETE, END, Keys
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn_events import Entry
from openapi_server.protocols import Clock

# How long pieces for readers elsewhere are gathered, in seconds.
GATHER_S = 0.025
# How many turns are sent in one round trip, and how many entries of each.
TURNS_PER_TRIP, ENTRIES_PER_TRIP = 64, 200
# A turn that has ended is looked after for this long: Redis may fall back to an earlier state when it fails over.
WATCHED_S = 60.0
# The log of a running turn outlives its process by several leases, and at least by this many seconds.
SHORTEST_TTL_S, TTL_LEASES = 60.0, 4

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Publication:
    """What of one turn is still to be sent. `sent` is the last number that Redis has, as far as is known here.

    `may_begin_until_s`: until then, by the monotonic clock, the store says that the turn is this process's, so its log
    may be written anew where it was lost. `ended_s`: when the terminal entry was appended. `ending`: how a turn of
    another process ended.
    """

    turn_id: str
    may_begin_until_s: float = 0.0
    sent: int = 0
    waiting: list[Entry] = field(default_factory=list)
    ended_s: float | None = None
    ending: bytes | None = None
    is_deleted: bool = False


class Publisher:
    """Sends entries for as long as `run` runs. `on_fenced` is called with each turn that another process took over.

    `list_entries` returns all entries of a turn of this process, None when they are gone. `lease_s` and
    `replay_window_s` are in seconds.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        clock: Clock,
        worker: str,
        list_entries: Callable[[str], Awaitable[Sequence[Entry] | None]],
        on_fenced: Callable[[str], None],
        *,
        lease_s: float,
        replay_window_s: float,
        gather_s: float = GATHER_S,
    ) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._worker = worker
        self._list_entries = list_entries
        self._on_fenced = on_fenced
        self._lease_s = lease_s
        self._running_ttl_s = max(SHORTEST_TTL_S, TTL_LEASES * lease_s)
        self._ended_ttl_s = max(1.0, replay_window_s)
        self._gather_s = gather_s
        self._turns: dict[str, Publication] = {}
        self._due: dict[str, Publication] = {}
        self._is_due = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._shas: dict[str, str] = {}
        self.is_away = False

    @property
    def waiting_count(self) -> int:
        """How many entries Redis does not have yet."""
        return sum(len(turn.waiting) for turn in self._turns.values())

    def begin(self, turn_id: str) -> None:
        turn = self._turns[turn_id] = Publication(turn_id, self._clock.monotonic() + self._lease_s)
        self._mark_due(turn)

    def add(self, turn_id: str, entries: Sequence[Entry]) -> None:
        turn = self._turns.get(turn_id)
        if turn is None or not entries:
            return
        turn.waiting.extend(entries)
        if entries[-1].event.is_terminal:
            turn.ended_s = self._clock.monotonic()
        self._mark_due(turn)

    def renew(self, turn_ids: Sequence[str]) -> None:
        """The store has just said that these turns are still this process's. Their logs get a new expiry."""
        for turn_id in turn_ids:
            if turn := self._turns.get(turn_id):
                turn.may_begin_until_s = self._clock.monotonic() + self._lease_s
                self._mark_due(turn)

    def end(self, turn_id: str, ending: bytes) -> None:
        """Tell how a turn of another process has ended."""
        turn = self._turns.setdefault(turn_id, Publication(turn_id))
        turn.ending = turn.ending or ending
        self._mark_due(turn)

    def delete(self, turn_id: str) -> None:
        """Send what is left, and delete the log then."""
        turn = self._turns.setdefault(turn_id, Publication(turn_id))
        turn.is_deleted = True
        self._mark_due(turn)

    async def flush(self, wait_s: float) -> bool:
        """Wait until all is sent. False when that took longer."""
        try:
            async with asyncio.timeout(wait_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Send for ever."""
        pause_s = FIRST_PAUSE_S
        while True:
            await self._is_due.wait()
            await asyncio.sleep(self._gather_s)
            try:
                await self._send_due()
            except Exception as error:  # of the client's many, none may end this: nothing would be shared any more
                await self._note_away(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S
                self._note_back()
            if not self._due:
                self._is_due.clear()
                self._is_idle.set()

    def _mark_due(self, turn: Publication) -> None:
        self._due[turn.turn_id] = turn
        self._is_idle.clear()
        self._is_due.set()

    async def _note_away(self, error: BaseException) -> None:
        if not self.is_away:
            self.is_away = True
            consequence = "turns of this process cannot be read in other processes until it is back"
            log.warning("event_log_away", error=type(error).__name__, consequence=consequence)
        if isinstance(error, ReadOnlyError):
            # It has become a replica. The address may lead to another one by now.
            await self._client.connection_pool.disconnect()

    def _note_back(self) -> None:
        """Compare all: a Redis that was away may have lost what it had."""
        if self.is_away:
            self.is_away = False
            log.info("event_log_back")
            for turn in self._turns.values():
                self._mark_due(turn)

    async def _send_due(self) -> None:
        self._drop_old()
        due = list(self._due.values())
        for start in range(0, len(due), TURNS_PER_TRIP):
            await self._send(due[start : start + TURNS_PER_TRIP])

    def _drop_old(self) -> None:
        oldest_s = self._clock.monotonic() - WATCHED_S
        for turn in list(self._turns.values()):
            if turn.ended_s is not None and turn.ended_s < oldest_s and turn.turn_id not in self._due:
                del self._turns[turn.turn_id]

    async def _send(self, turns: Sequence[Publication]) -> None:
        if not self._shas:
            await self._load_scripts()
        async with self._client.pipeline(transaction=False) as pipe:
            for turn in turns:
                del self._due[turn.turn_id]
                pipe.evalsha(*self._make_call(turn))
            try:
                answers: list[Any] = await pipe.execute(raise_on_error=False)
            except BaseException:
                for turn in turns:
                    self._mark_due(turn)
                raise
        failures = [await self._take_answer(turn, answer) for turn, answer in zip(turns, answers, strict=True)]
        if failure := next(filter(None, failures), None):
            raise failure

    async def _load_scripts(self) -> None:
        self._shas = {script: await self._client.script_load(script) for script in (APPEND, END, DELETE)}

    def _make_call(self, turn: Publication) -> tuple[Any, ...]:
        keys, channel = self._keys.get_turn_keys(turn.turn_id), self._keys.get_channel(turn.turn_id)
        if turn.ending is not None and not turn.is_deleted:
            return (self._shas[END], 2, *keys, self._worker, _to_ms(self._ended_ttl_s), channel, turn.ending)
        if turn.is_deleted and not turn.waiting:
            ttl_ms, channels = _to_ms(self._running_ttl_s), self._keys.get_process_channel("")
            return (self._shas[DELETE], 2, *keys, ttl_ms, channel, channels, turn.turn_id)
        entries = turn.waiting[:ENTRIES_PER_TRIP]
        # A turn that has ended was settled by this process.
        may_begin = turn.ended_s is not None or self._clock.monotonic() < turn.may_begin_until_s
        is_end = bool(entries) and entries[-1].event.is_terminal
        is_over = turn.ended_s is not None and len(entries) == len(turn.waiting)
        ttl_ms = _to_ms(self._ended_ttl_s if is_over else self._running_ttl_s)
        encoded = [encode_entry(entry.at, entry.event) for entry in entries]
        first = entries[0].seq if entries else turn.sent + 1
        arguments = (self._worker, first, ttl_ms, int(may_begin), int(is_end), channel)
        return (self._shas[APPEND], 2, *keys, *arguments, *encoded)

    async def _take_answer(self, turn: Publication, answer: Any) -> Exception | None:
        """Note what Redis has said of one turn; the error that is to be met by a pause."""
        if isinstance(answer, NoScriptError):
            self._shas = {}
            self._mark_due(turn)
            return None
        if isinstance(answer, Exception):
            self._mark_due(turn)
            return answer
        kind, last = answer[0].decode(), int(answer[1])
        if turn.is_deleted and (not turn.waiting or kind != "ok"):
            turn.waiting.clear()
            if kind == "ok":
                self._turns.pop(turn.turn_id, None)
            else:
                self._mark_due(turn)
        elif turn.ending is not None or kind in ("fenced", "closed"):
            self._turns.pop(turn.turn_id, None)
            if kind == "fenced":
                log.warning("event_log_fenced", turn=shorten_id(turn.turn_id))
                self._on_fenced(turn.turn_id)
        elif kind == "gap":
            await self._go_back(turn, last)
        elif kind == "ok":
            turn.sent = last
            turn.waiting = [entry for entry in turn.waiting if entry.seq > last]
            if turn.waiting or turn.is_deleted:
                self._mark_due(turn)
        # Else the log is lost, and is written anew when the store has said whose the turn is.
        return None

    async def _go_back(self, turn: Publication, last: int) -> None:
        """Redis has less than was sent: send again what follows `last`."""
        entries = await self._list_entries(turn.turn_id)
        if entries is None:
            self._turns.pop(turn.turn_id, None)
            return
        turn.sent = last
        turn.waiting = list(entries[last:])
        self._mark_due(turn)


def _to_ms(seconds: float) -> int:
    return round(1000 * seconds)
