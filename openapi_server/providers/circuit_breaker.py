"""The circuit breaker: an upstream that keeps failing is left alone for a while, and nobody waits for it."""

from __future__ import annotations

import structlog

from openapi_server.protocols import Clock

log = structlog.get_logger(__name__)


class CircuitBreaker:
    """Opens after `failures` in a row, for `pause_s`; then one attempt at a time may find out how things are."""

    def __init__(self, clock: Clock, *, failure_threshold: int, pause_s: float) -> None:
        self._clock = clock
        self._limit = failure_threshold
        self._pause_s = pause_s
        self._failures = 0
        self._opened_s: float | None = None
        self._probe: Attempt | None = None

    @property
    def is_open(self) -> bool:
        """True while no attempt is let through."""
        if self._opened_s is None:
            return False
        return self._probe is not None or self._clock.monotonic() < self._opened_s + self._pause_s

    def start_attempt(self) -> Attempt | None:
        """An attempt, which is to be told how it ended; None while the breaker is open."""
        if self.is_open:
            return None
        attempt = Attempt(self)
        self._probe = attempt if self._opened_s is not None else None
        return attempt

    def record_outcome(self, attempt: Attempt, is_success: bool | None) -> None:
        """What attempts from before the breaker opened find out does not open or close it any more."""
        is_probe = attempt is self._probe
        self._probe = None if is_probe else self._probe
        if is_success is None:
            return
        self._failures = 0 if is_success else self._failures + 1
        if is_probe and is_success:
            self._opened_s = None
            log.info("breaker_closed")
        elif is_probe or (self._opened_s is None and self._failures >= self._limit):
            self._opened_s = self._clock.monotonic()
            log.warning("breaker_opened", failures=self._failures, pause_s=self._pause_s)


class Attempt:
    """One attempt to be answered. The first that it is told counts."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._has_ended = False

    def record_success(self) -> None:
        self._end(is_success=True)

    def record_failure(self) -> None:
        self._end(is_success=False)

    def cancel(self) -> None:
        """It ended without a word about the upstream, as when the visitor left."""
        self._end(is_success=None)

    def _end(self, *, is_success: bool | None) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._breaker.record_outcome(self, is_success)
