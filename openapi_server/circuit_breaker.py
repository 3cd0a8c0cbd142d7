"""Circuit breaker: stops calls to a service that keeps failing, for the model providers and remote moderation alike.

    state       event                                      what happens
    closed      success                                    the failure count goes back to 0
    closed      failure, the `failure_threshold`th in a row  open for `pause_s`
    open        `start_attempt` within the pause           None: do not call
    half-open   `start_attempt`                            one attempt at a time; None for all others
    half-open   that attempt succeeds                      closed
    half-open   that attempt fails                         open for another `pause_s`
    half-open   that attempt is cancelled                  half-open: the next caller may try

An open breaker is half-open once its pause is over. Attempts from before the breaker opened change nothing.
"""

# Our own: purgatory 3.0 lets every request through while half-open, counts a cancelled one there as a success, and
# reads `time.time()`, so tests would have to sleep.

from __future__ import annotations

from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class CircuitBreaker:
    """Opens after `failure_threshold` failures in a row. `monotonic` gives the time in seconds; tests pass a fake."""

    def __init__(self, name: str, monotonic: Callable[[], float], *, failure_threshold: int, pause_s: float) -> None:
        self._name = name
        self._monotonic = monotonic
        self._failure_threshold = failure_threshold
        self._pause_s = pause_s
        self._failures = 0
        self._opened_s: float | None = None
        self._half_open_attempt: Attempt | None = None

    @property
    def is_open(self) -> bool:
        """True while `start_attempt` returns None."""
        if self._opened_s is None:
            return False
        return self._half_open_attempt is not None or self._monotonic() < self._opened_s + self._pause_s

    def start_attempt(self) -> Attempt | None:
        """An attempt, whose outcome the caller must record; None when the service must not be called now."""
        if self.is_open:
            return None
        attempt = Attempt(self)
        self._half_open_attempt = attempt if self._opened_s is not None else None
        return attempt

    def record_outcome(self, attempt: Attempt, is_success: bool | None) -> None:
        """Called by `Attempt`. `is_success` None: cancelled."""
        is_half_open = attempt is self._half_open_attempt
        self._half_open_attempt = None if is_half_open else self._half_open_attempt
        if is_success is None:
            return
        self._failures = 0 if is_success else self._failures + 1
        if is_half_open and is_success:
            self._opened_s = None
            log.info("breaker_closed", service=self._name)
        elif is_half_open or (self._opened_s is None and self._failures >= self._failure_threshold):
            self._opened_s = self._monotonic()
            log.warning("breaker_opened", service=self._name, failures=self._failures, pause_s=self._pause_s)


class Attempt:
    """One call to the service. The first outcome that is recorded counts; later ones are ignored."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._has_ended = False

    def record_success(self) -> None:
        self._end(is_success=True)

    def record_failure(self) -> None:
        self._end(is_success=False)

    def cancel(self) -> None:
        """The attempt ended without saying anything about the service, as when the visitor left."""
        self._end(is_success=None)

    def _end(self, *, is_success: bool | None) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._breaker.record_outcome(self, is_success)
