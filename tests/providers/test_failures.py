"""Whether a failure may be retried, and when the server asks us to."""

from __future__ import annotations

from email.utils import format_datetime

import pytest

from openapi_server.providers.failures import FailureKind, ProviderError, make_error
from tests.support.fakes import FakeClock

CLOCK = FakeClock()


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (FailureKind.TRANSIENT, [None, 200, 408, 409, 425, 429, 500, 502, 503, 504, 529]),
        (FailureKind.PERMANENT, [401, 402, 403, 404, 405, 451]),
        (FailureKind.REQUEST, [400, 413, 422]),
    ],
    ids=lambda value: str(value),
)
def test_the_status_says_what_the_next_attempt_is_worth(kind: FailureKind, statuses: list[int | None]) -> None:
    """Busy or broken: retry. A wrong key: never. A refused prompt: not this one."""
    assert {make_error("fake", "SomeError", status).kind for status in statuses} == {kind}


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("9" * 5_000, 999_999_999),
        (format_datetime(CLOCK.now().replace(second=45), usegmt=True), 5),
        (format_datetime(CLOCK.now().replace(second=5), usegmt=True), 0),
        ("Sat, 21 Nov 2026 10:30:45 +0000", 5),
        ("Sat, 21 Nov 2026 10:30:45", None),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Sat, 99 Nov 2026", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(retry_after: str | None, wait_s: float | None) -> None:
    """RFC 9110, section 10.2.3; malformed values are ignored."""
    assert ProviderError(retry_after=retry_after).get_wait_s(CLOCK) == wait_s
