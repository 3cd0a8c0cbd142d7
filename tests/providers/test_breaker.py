"""The circuit breaker: when it lets attempts through, and what they tell it."""

from __future__ import annotations

import pytest

from openapi_server.providers.circuit_breaker import Attempt, CircuitBreaker
from tests.support.fakes import FakeClock

PAUSE_S = 30


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    """It opens after three failures."""
    return CircuitBreaker(clock, failure_threshold=3, pause_s=PAUSE_S)


def begun(breaker: CircuitBreaker) -> Attempt:
    attempt = breaker.start_attempt()
    assert attempt is not None
    return attempt


def fail(breaker: CircuitBreaker, times: int = 3) -> None:
    for _ in range(times):
        begun(breaker).record_failure()


def test_it_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    """A success between them begins the count anew."""
    fail(breaker, 2)
    begun(breaker).record_success()
    fail(breaker, 2)
    assert not breaker.is_open

    fail(breaker, 1)
    assert breaker.is_open
    assert breaker.start_attempt() is None


def test_what_says_nothing_of_the_upstream_is_not_counted(breaker: CircuitBreaker) -> None:
    """A visitor who left is no failure, and no success either."""
    fail(breaker, 2)
    begun(breaker).cancel()
    assert not breaker.is_open

    fail(breaker, 1)
    assert breaker.is_open


def test_after_the_pause_one_attempt_at_a_time_finds_out(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """The others go on without it until it has."""
    fail(breaker)
    clock.advance(PAUSE_S - 0.1)
    assert breaker.start_attempt() is None

    clock.advance(0.1)
    assert not breaker.is_open
    probe = begun(breaker)
    assert breaker.is_open
    assert breaker.start_attempt() is None
    probe.record_success()
    assert not breaker.is_open
    fail(breaker, 2)
    assert not breaker.is_open


def test_a_failed_probe_opens_it_for_another_pause(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """One is enough."""
    fail(breaker)
    clock.advance(PAUSE_S)
    begun(breaker).record_failure()

    clock.advance(PAUSE_S - 0.1)
    assert breaker.start_attempt() is None
    clock.advance(0.1)
    begun(breaker).record_success()
    assert not breaker.is_open


def test_a_probe_that_was_abandoned_makes_room_for_the_next(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Otherwise one visitor who leaves would silence the mind for ever."""
    fail(breaker)
    clock.advance(PAUSE_S)
    begun(breaker).cancel()

    assert not breaker.is_open
    begun(breaker).record_success()
    assert not breaker.is_open


@pytest.mark.parametrize("is_success", [True, False])
def test_latecomers_do_not_judge(breaker: CircuitBreaker, clock: FakeClock, is_success: bool) -> None:
    """An attempt from before the breaker opened neither closes it nor takes the probe's place."""
    late, later = begun(breaker), begun(breaker)
    fail(breaker)
    (late.record_success if is_success else late.record_failure)()
    assert breaker.is_open

    clock.advance(PAUSE_S)
    probe = begun(breaker)
    (later.record_success if is_success else later.record_failure)()
    assert breaker.is_open
    probe.record_success()
    assert not breaker.is_open


def test_the_first_that_an_attempt_is_told_counts(breaker: CircuitBreaker) -> None:
    """Whoever cleans up may say that it was abandoned, whatever was said before."""
    for _ in range(3):
        attempt = begun(breaker)
        attempt.record_failure()
        attempt.cancel()
        attempt.record_success()

    assert breaker.is_open
