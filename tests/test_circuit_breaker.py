"""The circuit breaker: when it lets attempts through, and how their outcomes change it."""

from __future__ import annotations

import pytest

from openapi_server.circuit_breaker import Attempt, CircuitBreaker
from tests.support.fakes import FakeClock

PAUSE_S = 30


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    """It opens after three failures."""
    return CircuitBreaker("test", clock.monotonic, failure_threshold=3, pause_s=PAUSE_S)


def start_attempt(breaker: CircuitBreaker) -> Attempt:
    attempt = breaker.start_attempt()
    assert attempt is not None
    return attempt


def fail(breaker: CircuitBreaker, times: int = 3) -> None:
    for _ in range(times):
        start_attempt(breaker).record_failure()


def test_it_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    """A success in between starts the count again."""
    fail(breaker, 2)
    start_attempt(breaker).record_success()
    fail(breaker, 2)
    assert not breaker.is_open

    fail(breaker, 1)
    assert breaker.is_open
    assert breaker.start_attempt() is None


def test_a_cancelled_attempt_is_not_counted(breaker: CircuitBreaker) -> None:
    """A visitor who left is neither a failure nor a success of the service."""
    fail(breaker, 2)
    start_attempt(breaker).cancel()
    assert not breaker.is_open

    fail(breaker, 1)
    assert breaker.is_open


def test_after_the_pause_one_attempt_at_a_time_is_let_through(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """All others go on without the service until that attempt has ended."""
    fail(breaker)
    clock.advance(PAUSE_S - 0.1)
    assert breaker.start_attempt() is None

    clock.advance(0.1)
    assert not breaker.is_open
    attempt = start_attempt(breaker)
    assert breaker.is_open
    assert breaker.start_attempt() is None
    attempt.record_success()
    assert not breaker.is_open
    fail(breaker, 2)
    assert not breaker.is_open


def test_a_failure_while_half_open_opens_it_for_another_pause(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """One failure is enough then."""
    fail(breaker)
    clock.advance(PAUSE_S)
    start_attempt(breaker).record_failure()

    clock.advance(PAUSE_S - 0.1)
    assert breaker.start_attempt() is None
    clock.advance(0.1)
    start_attempt(breaker).record_success()
    assert not breaker.is_open


def test_a_cancelled_attempt_while_half_open_lets_the_next_one_through(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """Otherwise one visitor who leaves would keep the breaker open for ever."""
    fail(breaker)
    clock.advance(PAUSE_S)
    start_attempt(breaker).cancel()

    assert not breaker.is_open
    start_attempt(breaker).record_success()
    assert not breaker.is_open


@pytest.mark.parametrize("is_success", [True, False])
def test_attempts_from_before_it_opened_change_nothing(
    breaker: CircuitBreaker, clock: FakeClock, is_success: bool
) -> None:
    """They neither close it nor end the half-open attempt."""
    late, later = start_attempt(breaker), start_attempt(breaker)
    fail(breaker)
    (late.record_success if is_success else late.record_failure)()
    assert breaker.is_open

    clock.advance(PAUSE_S)
    attempt = start_attempt(breaker)
    (later.record_success if is_success else later.record_failure)()
    assert breaker.is_open
    attempt.record_success()
    assert not breaker.is_open


def test_the_first_outcome_of_an_attempt_counts(breaker: CircuitBreaker) -> None:
    """Clean-up code may cancel an attempt whose outcome was recorded before."""
    for _ in range(3):
        attempt = start_attempt(breaker)
        attempt.record_failure()
        attempt.cancel()
        attempt.record_success()

    assert breaker.is_open
