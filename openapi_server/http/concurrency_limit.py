"""A limit for how many requests are parsed and validated in one round of the event loop.

Parsing, validation and Flask take a few milliseconds of the one interpreter for each request. If a thousand requests
that arrive together all started at once, a health check behind them would wait for all of them. So a request waits
here for one of a few slots before it is parsed, and releases its slot when its handler begins: streams hold none. The
slot is passed on in the next round of the event loop, because most requests come as far in one go.

Free slots go to the callers in turn, not to the requests in the order of their arrival: whoever sends five hundred
requests at once waits for them alone. All new and nameless callers of one address count as one caller, for names can be
invented; see `http/rate_limits`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.addresses import load_address_table
from openapi_server.http.rate_limits import get_admission

SLOT_EXTENSION = "zoochat.concurrency_slot"

# Monitoring must not wait for the other requests.
UNLIMITED_PATHS = frozenset({"/health", "/ready", "/system_health", "/metrics"})


def is_unlimited(path: str) -> bool:
    """Whether requests for the path, as a client sends it, wait for no others.

    >>> is_unlimited("/health"), is_unlimited("/api/health"), is_unlimited("/convo_turn")
    (True, True, False)
    """
    address = load_address_table().find(path)
    return address is not None and address.template in UNLIMITED_PATHS


@dataclass(slots=True)
class WaitingRequests:
    """How many requests wait for a slot now."""

    count: int = 0


class FairSlots:
    """A number of slots, for which callers wait in turn: the next free one is for the caller who waits longest.

    >>> slots = FairSlots(1)
    >>> async def hold(name, order):
    ...     await slots.acquire(name)
    ...     order.append(name)
    ...     await asyncio.sleep(0)
    ...     slots.release()
    >>> async def run(names):
    ...     order = []
    ...     await asyncio.gather(*(hold(name, order) for name in names))
    ...     return order
    >>> "".join(asyncio.run(run("aaaabac")))
    'aabcaaa'
    """

    def __init__(self, count: int) -> None:
        self._free = count
        # The callers who wait, the next one first, each with its requests in the order of their arrival.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, caller: str) -> None:
        if self._free:
            self._free -= 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(granted)
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
        """Pass the slot on, or keep it free."""
        while self._waiting:
            caller, requests = self._waiting.popitem(last=False)
            granted = requests.popleft()
            if requests:
                self._waiting[caller] = requests
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1

    def _withdraw(self, caller: str, granted: asyncio.Future[None]) -> None:
        requests = self._waiting.get(caller)
        if requests is not None and granted in requests:
            requests.remove(granted)
            if not requests:
                del self._waiting[caller]


class ConcurrencySlot:
    """The slot of one request. Further calls of `release` do nothing."""

    def __init__(self, slots: FairSlots) -> None:
        self._slots = slots
        self._is_held = True

    def release(self) -> None:
        """Pass the slot on in the next round of the event loop: what one request takes of this round is taken."""
        if self._is_held:
            self._is_held = False
            asyncio.get_running_loop().call_soon(self._slots.release)


class ConcurrencyLimitMiddleware:
    """ASGI middleware: lets `max_concurrent` requests pass in a round, and the callers in turn."""

    def __init__(self, app: ASGIApp, *, max_concurrent: int, waiting: WaitingRequests) -> None:
        self._app = app
        self._waiting = waiting
        self._slots = FairSlots(max_concurrent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self._app(scope, receive, send)
            return
        self._waiting.count += 1
        try:
            await self._slots.acquire(name_queue(scope))
        finally:
            self._waiting.count -= 1
        slot = ConcurrencySlot(self._slots)

        async def send_and_release(message: Message) -> None:
            slot.release()
            await send(message)

        try:
            scope.setdefault("extensions", {})[SLOT_EXTENSION] = slot
            await self._app(scope, receive, send_and_release)
        finally:
            slot.release()


def name_queue(scope: Scope) -> str:
    """Whose requests wait one after the other: those of a known caller, or of all others of an address."""
    admission = get_admission(scope)
    if admission is None:
        return str((scope.get("client") or ("",))[0])
    caller = admission.caller
    return caller.address_key if caller.is_new else caller.key


def release_slot(scope: Scope) -> None:
    """Release the slot of the request, if it has one."""
    slot = scope["extensions"].get(SLOT_EXTENSION)
    if slot is not None:
        slot.release()
