"""How minds fail, as far as it matters what to do about it. Of the upstream's own words nothing comes along."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import StrEnum

import structlog

from openapi_server.models.errors import ProviderFailed
from openapi_server.protocols import Clock

log = structlog.get_logger(__name__)


class FailureKind(StrEnum):
    """What a failure says of the next attempt."""

    TRANSIENT = "passing"  # may be over at the next attempt
    PERMANENT = "lasting"  # a wrong key or model: it will not
    REQUEST = "request"  # this one prompt was refused, which says nothing of the others


_TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
_REQUEST_STATUSES = frozenset({400, 413, 422})


class ProviderError(ProviderFailed):
    """A mind failed. `retry_after`: the header as it came, seconds or a date."""

    def __init__(self, cause: FailureKind = FailureKind.TRANSIENT, retry_after: str | None = None) -> None:
        super().__init__()
        self.cause = cause
        self._retry_after = retry_after

    def get_wait_s(self, clock: Clock) -> float | None:
        """How long the upstream asks us to wait; None when it does not say so, or not in a way that can be read.

        RFC 9110, section 10.2.3.
        """
        told = (self._retry_after or "").strip()
        if told.isascii() and told.isdecimal():
            # Anything longer is no wait that anybody would sit out, and too long a number to read.
            return float(told[:9])
        try:
            return max(0.0, (parsedate_to_datetime(told) - clock.now()).total_seconds())
        except (TypeError, ValueError):
            return None


def make_error(provider: str, failure: str, status: int | None = None, retry_after: str | None = None) -> ProviderError:
    """Log a failure by its kind alone, and make the error to raise. `status` None: no answer, or half a one."""
    log.warning("provider_failed", provider=provider, failure=failure, status=status)
    return ProviderError(_classify_status(status), retry_after)


def make_error_from(provider: str, error: Exception) -> ProviderError:
    """The same for an error of the libraries that carry the whole answer along, `openai` and `anthropic`."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    status = getattr(error, "status_code", None)
    return make_error(provider, type(error).__name__, status, headers.get("retry-after"))


def _classify_status(status: int | None) -> FailureKind:
    if status in _REQUEST_STATUSES:
        return FailureKind.REQUEST
    is_passing = status is None or status < 400 or status >= 500 or status in _TRANSIENT_STATUSES
    return FailureKind.TRANSIENT if is_passing else FailureKind.PERMANENT
