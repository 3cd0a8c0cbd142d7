"""Waiting for something to become true, always with a bound."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

INTERVAL_S = 0.01


async def poll_until(claim: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Seconds until the claim held; infinite when it did not within the bound."""
    began_s = time.monotonic()
    while not await claim():
        if time.monotonic() - began_s > within_s:
            return math.inf
        await asyncio.sleep(INTERVAL_S)
    return time.monotonic() - began_s


def wait_until(claim: Callable[[], bool], within_s: float) -> float:
    """Seconds until the claim held; fails when it does not within the bound."""
    began_s = time.monotonic()
    while not claim():
        assert time.monotonic() - began_s < within_s, f"not within {within_s} s"
        time.sleep(INTERVAL_S)
    return time.monotonic() - began_s
