"""Where requests are counted: in this process, or in Redis for several processes. Sliding windows of `limits`."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import cast

import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage, SlidingWindowCounterSupport, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from openapi_server.config import ConfigError

MEMORY_URL = "memory://"
# So many take 35 MB.
MAX_KEYS = 100_000
# A Redis that takes longer counts as away. Requests are then let through, and it is asked again after the pause.
REDIS_TIMEOUT_S = 0.25
REDIS_PAUSE_S = 5

log = structlog.get_logger(__name__)

Window = tuple[RateLimitItem, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window after a request: how many more it takes, and in how many seconds there is room for another one."""

    amount: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class HitResult:
    """Whether all windows had room for the request. `windows` is empty when they could not be asked."""

    is_allowed: bool
    windows: tuple[WindowState, ...] = ()


class BoundedMemoryStorage(MemoryStorage):
    """Sliding windows in this process; the one that was not used for longest makes room for a new one.

    Not the library's own way: with each hit it walks over all keys to find the expired ones, which takes 10 ms for
    100,000, and the number of its keys has no bound. Call it on the event loop only.
    """

    STORAGE_SCHEME: list[str] = ["async+zoochat+memory"]  # noqa: RUF012  # as the library declares it

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        super().__init__()
        self._max_keys = max_keys
        # The number of the current window, and the counts of the previous and of the current window.
        self._windows: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        number, share = _split_time(expiry)
        previous, current = self._get_counts(key, number)
        if int(previous * share + current) + amount > limit:
            return False
        self._windows[key] = (number, previous, current + amount)
        self._windows.move_to_end(key)
        if len(self._windows) > self._max_keys:
            self._windows.popitem(last=False)
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        number, share = _split_time(expiry)
        previous, current = self._get_counts(key, number)
        return previous, share * expiry, current, share * expiry + expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._windows.pop(key, None)

    async def reset(self) -> int | None:
        count = len(self._windows)
        self._windows.clear()
        return count

    def _get_counts(self, key: str, number: int) -> tuple[int, int]:
        stored, previous, current = self._windows.get(key, (number, 0, 0))
        if stored == number:
            return previous, current
        return (current if stored == number - 1 else 0), 0


def _split_time(expiry: int) -> tuple[int, float]:
    """The number of the window that the time is in, and the share of it that is left."""
    position = time.time() / expiry
    return int(position), 1 - position % 1


class WindowCounters:
    """Counts requests in sliding windows. Requests are let through while the storage is away.

    `timeout_s`: how long the storage may take for one request.
    """

    def __init__(self, storage: Storage, monotonic: Callable[[], float], timeout_s: float | None = None) -> None:
        assert isinstance(storage, SlidingWindowCounterSupport)  # noqa: S101  # all storages that we open have it
        self._strategy = SlidingWindowCounterRateLimiter(storage)
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._asks_again_s: float | None = None

    async def hit(self, windows: Sequence[Window]) -> HitResult:
        """Count a request in all windows, or in none of them when one has no room."""
        if not windows or not self._may_ask():
            return HitResult(is_allowed=True)
        if self._timeout_s is None:
            return await self._hit(windows)
        try:
            async with asyncio.timeout(self._timeout_s):
                counted = await self._hit(windows)
        except Exception as error:  # of the client's many, none may fail a request
            self._record_outage(error)
            return HitResult(is_allowed=True)
        self._record_recovery()
        return counted

    async def _hit(self, windows: Sequence[Window]) -> HitResult:
        states = [await self._get_state(*window) for window in windows]
        if any(state.remaining <= 0 for state in states):
            return HitResult(False, tuple(states))
        hits = [await self._strategy.hit(item, *key) for item, key in windows]
        if not all(hits):
            # Another process was faster.
            return HitResult(False, tuple([await self._get_state(*window) for window in windows]))
        return HitResult(True, tuple(WindowState(s.amount, s.remaining - 1, s.reset_s) for s in states))

    async def _get_state(self, item: RateLimitItem, key: tuple[str, ...]) -> WindowState:
        stats = await self._strategy.get_window_stats(item, *key)
        # While nothing is counted, the library says that the window is reset now.
        is_used = stats.remaining < item.amount
        reset_s = max(0, stats.reset_time - time.time()) if is_used else item.get_expiry()
        return WindowState(item.amount, stats.remaining, reset_s)

    def _may_ask(self) -> bool:
        if self._asks_again_s is None:
            return True
        if self._monotonic() < self._asks_again_s:
            return False
        # This request asks; the others do not wait for what it learns.
        self._asks_again_s = self._monotonic() + REDIS_PAUSE_S
        return True

    def _record_outage(self, error: Exception) -> None:
        if self._asks_again_s is None:
            log.warning("rate_limit_storage_away", error=type(error).__name__, consequence="requests are not limited")
        self._asks_again_s = self._monotonic() + REDIS_PAUSE_S

    def _record_recovery(self) -> None:
        if self._asks_again_s is not None:
            log.info("rate_limit_storage_back")
            self._asks_again_s = None


@asynccontextmanager
async def open_counters(url: str, monotonic: Callable[[], float]) -> AsyncIterator[WindowCounters]:
    """The counters that `RATE_LIMIT_STORAGE` names. Redis need not be there yet. `ConfigError` without its client."""
    if url == MEMORY_URL:
        yield WindowCounters(BoundedMemoryStorage(), monotonic)
        return
    if find_spec("redis") is None:
        raise ConfigError("RATE_LIMIT_STORAGE: is a Redis, but the extra `redis` is not installed")
    storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix="zoochat")
    try:
        yield WindowCounters(storage, monotonic, REDIS_TIMEOUT_S)
    finally:
        await cast(RedispyBridge, storage.bridge).storage.aclose()
