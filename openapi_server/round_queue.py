"""Spreads callbacks over the rounds of the event loop.

A round runs all that is ready. When hundreds of requests or readers become ready at once, a round takes as long as all
of them together, and whoever needs a few rounds, such as a health check, waits for a few times that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice

# How much the latest measurement counts beside those before it.
_WEIGHT = 0.25


class RoundQueue:
    """Calls callbacks in the order in which they were added: in each round of the event loop at most `per_round`, and
    as many as take `budget_s` seconds of the processor, at least one.

    What a callback takes is measured where there are several: by itself, and by the first step of the tasks that it
    makes ready. How long the next ones take is guessed from that. Belongs to one event loop.
    """

    def __init__(self, per_round: int, budget_s: float | None = None) -> None:
        self._per_round = per_round
        self._budget_s = budget_s
        self._cost_s = 0.0
        self._waiting: dict[Callable[[], object], None] = {}
        self._is_scheduled = False
        self._is_paused = False
        self._step_began_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, callback: Callable[[], object]) -> None:
        """Call it soon. A callback that waits already keeps its place, and is called once."""
        self._waiting[callback] = None
        self._schedule()

    def discard(self, callback: Callable[[], object]) -> None:
        """Do not call it, if it waits."""
        self._waiting.pop(callback, None)

    def call_all(self) -> None:
        """Call all that waits now: there will be no further round."""
        due, self._waiting = list(self._waiting), {}
        for callback in due:
            callback()

    def take_round(self) -> bool:
        """Whether nothing waits, and nothing was called in this round: then the caller is the one of this round."""
        if self._is_scheduled or self._waiting or self._is_paused:
            return False
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._call_some)
        return True

    def pause(self) -> None:
        """Call nothing until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and self._waiting and not self._is_paused:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._call_some)

    def _call_some(self) -> None:
        self._is_scheduled = False
        if self._is_paused:
            return
        due = list(islice(self._waiting, self._choose_count()))
        for callback in due:
            del self._waiting[callback]
        self._schedule()
        if self._budget_s is not None and (self._waiting or len(due) > 1):
            self._call_and_measure(due)
        else:
            for callback in due:
                callback()

    def _choose_count(self) -> int:
        if self._budget_s is None or self._cost_s * self._per_round <= self._budget_s:
            return self._per_round
        return max(1, int(self._budget_s / self._cost_s))

    def _call_and_measure(self, due: list[Callable[[], object]]) -> None:
        """Call them, and measure the steps that they make ready: the event loop runs these between the two marks."""
        loop = asyncio.get_running_loop()
        began_s = time.thread_time()
        loop.call_soon(self._note_step)
        for callback in due:
            callback()
        loop.call_soon(self._note_cost, len(due), time.thread_time() - began_s)

    def _note_step(self) -> None:
        self._step_began_s = time.thread_time()

    def _note_cost(self, count: int, called_s: float) -> None:
        cost_s = (called_s + time.thread_time() - self._step_began_s) / count
        self._cost_s += (_WEIGHT if self._cost_s else 1.0) * (cost_s - self._cost_s)
