"""Waiting for a claim and judging times, so that neither depends on how busy the machine is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

INTERVAL_S = 0.01
SAMPLE_S = 0.1


def measure_slowness() -> float:
    """How much longer work takes now than on a machine that does nothing else: at least 1.

    The elapsed time of a short computation, divided by the processor time that it took.
    """
    started_s, started_cpu_s = time.perf_counter(), time.thread_time()
    while time.thread_time() - started_cpu_s < SAMPLE_S:
        pass
    return max(1.0, (time.perf_counter() - started_s) / (time.thread_time() - started_cpu_s))


def is_within(took_s: float, limit_s: float) -> bool:
    """Whether the time is within the limit for an idle machine, or within as much more as this one is slower now."""
    return took_s <= limit_s or took_s <= limit_s * measure_slowness()


async def poll_until(claim: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Seconds until the claim held; infinite when it did not within the bound."""
    started_s = time.monotonic()
    while not await claim():
        if not is_within(time.monotonic() - started_s, within_s):
            return math.inf
        await asyncio.sleep(INTERVAL_S)
    return time.monotonic() - started_s


def wait_until(claim: Callable[[], bool], within_s: float) -> float:
    """Seconds until the claim held; fails when it does not within the bound."""
    started_s = time.monotonic()
    while not claim():
        assert is_within(time.monotonic() - started_s, within_s), f"not within {within_s} s"
        time.sleep(INTERVAL_S)
    return time.monotonic() - started_s
