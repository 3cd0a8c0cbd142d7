"""Limits for the requests that wait: how many are parsed and validated in one round of the event loop, and how many may
wait for their turn at all.

Parsing, validation and Flask take up to a millisecond of the one interpreter for each request. If a thousand requests
that arrive together all started at once, a health check behind them would wait for all of them. So a request waits
here for one of a few slots before it is parsed, and releases its slot when its handler begins: streams hold none. In a
round of the event loop as many pass as take `STARTS_S_PER_ROUND` or `READS_S_PER_ROUND` of the processor together.

Free slots go to the callers in turn, not to the requests in the order of their arrival: whoever sends five hundred
requests at once waits for them alone. All new and nameless callers of one address count as one caller, for names can be
invented; see `http/rate_limits`. Messages, which start turns, have slots of their own, so that whoever stops or resumes
a turn does not wait behind them. Beyond `MAX_PENDING` messages one is refused at once: the latest of the caller who has
most of them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict, deque
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.engine.turn_scheduler import TurnScheduler
from openapi_server.http.error_handlers import make_error_response
from openapi_server.http.operation_table import get_operation, load_operation_table
from openapi_server.http.rate_limits import Caller, get_admission
from openapi_server.models.errors import Overloaded
from openapi_server.round_queue import RoundQueue

SLOT_EXTENSION = "zoochat.concurrency_slot"

# Monitoring must not wait for the other requests.
UNLIMITED_PATHS = frozenset({"/health", "/ready", "/system_health", "/metrics"})

# How long requests are parsed and validated in one round of the event loop, in seconds of the processor.
STARTS_S_PER_ROUND, READS_S_PER_ROUND = 0.003, 0.002
# When those who are refused may come back, in seconds: not all at the same moment.
RETRY_AFTER_S = (1, 2, 3, 4, 5)


def is_unlimited(path: str) -> bool:
    """Whether requests for the path, as a client sends it, wait for no others.

    >>> is_unlimited("/health"), is_unlimited("/api/health"), is_unlimited("/convo_turn")
    (True, True, False)
    """
    address = load_operation_table().find(path)
    return address is not None and address.template in UNLIMITED_PATHS


def is_monitoring(first: bytes) -> bool:
    """Whether a connection that begins with these bytes is one of monitoring.

    >>> is_monitoring(b"GET /health HTTP/1.1"), is_monitoring(b"GET /ready?probe=1 HTTP"), is_monitoring(b"POST /chat ")
    (True, True, False)
    """
    method, _, rest = first.partition(b" ")
    path, has_end, _ = rest.partition(b" ")
    if method not in (b"GET", b"HEAD") or not has_end:
        return False
    return is_unlimited(path.partition(b"?")[0].decode("latin-1"))


@dataclass(slots=True)
class WaitingRequests:
    """How many requests wait for a slot now."""

    count: int = 0


class FairSlots:
    """A number of slots, for which callers wait in turn: the next free one is for the caller who waits longest.

    `rounds` decides how many are granted in a round of the event loop.

    >>> async def hold(slots, name, order):
    ...     await slots.acquire(name)
    ...     order.append(name)
    ...     await asyncio.sleep(0)
    ...     slots.release()
    >>> async def run(names):
    ...     slots, order = FairSlots(1, RoundQueue(1)), []
    ...     await asyncio.gather(*(hold(slots, name, order) for name in names))
    ...     return order
    >>> "".join(asyncio.run(run("aaaabac")))
    'aabcaaa'
    """

    def __init__(self, count: int, rounds: RoundQueue) -> None:
        self._free = count
        self._rounds = rounds
        self._waiting_count = 0
        # Of the free slots, how many are about to be granted.
        self._due = 0
        # The callers who wait, the next one first, each with its requests in the order of their arrival.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __len__(self) -> int:
        """How many requests wait."""
        return self._waiting_count

    async def acquire(self, caller: str) -> None:
        """Raises what `refuse_last` was given."""
        if self._free and not self._waiting_count and self._rounds.take_round():
            self._free -= 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(granted)
        self._waiting_count += 1
        self._schedule()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                # The slot was granted at the same moment.
                self.release()
            else:
                self._withdraw(caller, granted)
            raise

    def release(self) -> None:
        """The slot is free for the next round."""
        self._free += 1
        self._schedule()

    def refuse_last(self, caller: str, error: Exception) -> bool:
        """Let the last request of who has most of them raise the error, if that are two more than `caller` has."""
        name = max(self._waiting, key=lambda each: len(self._waiting[each]), default=caller)
        requests = self._waiting.get(name) or deque()
        if len(requests) < len(self._waiting.get(caller, ())) + 2:
            return False
        refused = requests[-1]
        self._withdraw(name, refused)
        if not refused.done():
            refused.set_exception(error)
        return True

    def _schedule(self) -> None:
        while self._due < min(self._free, self._waiting_count):
            self._due += 1
            self._rounds.add(partial(self._grant))

    def _grant(self) -> None:
        self._due -= 1
        while self._waiting and self._free:
            caller, requests = self._waiting.popitem(last=False)
            granted = requests.popleft()
            self._waiting_count -= 1
            if requests:
                self._waiting[caller] = requests
            if not granted.done():
                self._free -= 1
                granted.set_result(None)
                return

    def _withdraw(self, caller: str, granted: asyncio.Future[None]) -> None:
        requests = self._waiting.get(caller)
        if requests is not None and granted in requests:
            requests.remove(granted)
            self._waiting_count -= 1
            if not requests:
                del self._waiting[caller]


def make_slots(count: int) -> tuple[FairSlots, FairSlots]:
    """The slots of messages, and as many for all other requests."""
    starts = FairSlots(count, RoundQueue(count, STARTS_S_PER_ROUND))
    return starts, FairSlots(count, RoundQueue(count, READS_S_PER_ROUND))


class ConcurrencySlot:
    """The slot of one request. Further calls of `release` do nothing."""

    def __init__(self, slots: FairSlots) -> None:
        self._slots = slots
        self._is_held = True

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._slots.release()


class PendingTurns:
    """The messages that wait for their turns to run, at most `most`: as requests, by caller, and then as turns."""

    def __init__(self, most: int, scheduler: TurnScheduler) -> None:
        self.refused_count = 0
        self._most = most
        self._scheduler = scheduler
        self._requests: Counter[str] = Counter()
        self._request_count = 0
        self._retry_after_s = itertools.cycle(RETRY_AFTER_S)

    @property
    def count(self) -> int:
        return self._request_count + len(self._scheduler)

    @property
    def is_exceeded(self) -> bool:
        return self.count > self._most

    def require_room(self, caller: Caller) -> None:
        """Raise `Overloaded` if all places are taken, and no other caller has two more of them than this one."""
        if self.count >= self._most:
            most = max(self._requests.values(), default=0)
            if self._requests[_name_queue_of(caller)] + 2 > most:
                raise self.make_error()

    def require_place(self) -> None:
        """Raise `Overloaded` if all places are taken."""
        if self.count >= self._most:
            raise self.make_error()

    def enter(self, caller: str) -> None:
        self._requests[caller] += 1
        self._request_count += 1

    def leave(self, caller: str) -> None:
        self._request_count -= 1
        self._requests[caller] -= 1
        if not self._requests[caller]:
            del self._requests[caller]

    def hold_turns(self) -> AbstractContextManager[None]:
        """Let no turn run within the context: first the requests that wait."""
        return self._scheduler.pause()

    def make_error(self) -> Overloaded:
        self.refused_count += 1
        return Overloaded(retry_after_s=next(self._retry_after_s))


class ConcurrencyLimitMiddleware:
    """ASGI middleware: lets requests pass, at most `max_concurrent` messages and as many others at once.

    A message beyond those that may wait is answered with 503: this one, or one of a caller who has more of them.
    """

    def __init__(self, app: ASGIApp, *, max_concurrent: int, waiting: WaitingRequests, pending: PendingTurns) -> None:
        self._app = app
        self._waiting = waiting
        self._pending = pending
        self._starts, self._others = make_slots(max_concurrent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        is_message = starts_turn(scope)
        self._waiting.count += 1
        try:
            await (self._acquire_start(scope) if is_message else self._others.acquire(name_queue(scope)))
        except Overloaded as error:
            await make_error_response(error)(scope, receive, send)
            return
        finally:
            self._waiting.count -= 1
        slot = ConcurrencySlot(self._starts if is_message else self._others)

        async def send_and_release(message: Message) -> None:
            slot.release()
            await send(message)

        try:
            scope.setdefault("extensions", {})[SLOT_EXTENSION] = slot
            await self._app(scope, receive, send_and_release)
        finally:
            slot.release()

    async def _acquire_start(self, scope: Scope) -> None:
        caller = name_queue(scope)
        if self._pending.is_exceeded:
            error = self._pending.make_error()
            if not self._starts.refuse_last(caller, error):
                raise error
        with self._pending.hold_turns():
            await self._starts.acquire(caller)


def name_queue(scope: Scope) -> str:
    """Whose requests wait one after the other: those of a known caller, or of all others of an address."""
    admission = get_admission(scope)
    return str((scope.get("client") or ("",))[0]) if admission is None else _name_queue_of(admission.caller)


def _name_queue_of(caller: Caller) -> str:
    return caller.address_key if caller.is_new else caller.key


def starts_turn(scope: Scope) -> bool:
    """Whether the request is a message that starts a turn. One with `Last-Event-ID` only reads on."""
    operation = get_operation(scope)
    is_message = operation is not None and operation.rate_limit == "turns"
    return is_message and all(name != b"last-event-id" for name, _ in scope["headers"])


def release_slot(scope: Scope) -> None:
    """Release the slot of the request, if it has one."""
    slot = scope["extensions"].get(SLOT_EXTENSION)
    if slot is not None:
        slot.release()
