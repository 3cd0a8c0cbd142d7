"""Failures of model providers, by whether a retry makes sense. The server's error texts are never kept or logged."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import StrEnum

import structlog

from openapi_server.models.errors import ProviderFailed
from openapi_server.protocols import Clock

log = structlog.get_logger(__name__)


class FailureKind(StrEnum):
    """Whether another attempt may succeed."""

    TRANSIENT = "transient"  # the next attempt may succeed
    PERMANENT = "permanent"  # it will not, as with a wrong key or model
    REQUEST = "request"  # the server refused this prompt, but may answer others


_TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
_REQUEST_STATUSES = frozenset({400, 413, 422})


class ResponseTooLarge(Exception):
    """A model server sent a longer line than any reply has."""


class ProviderError(ProviderFailed):
    """A model provider failed. `retry_after`: the header's value, seconds or a date. `reason`: for the operator."""

    def __init__(
        self,
        kind: FailureKind = FailureKind.TRANSIENT,
        retry_after: str | None = None,
        reason: str = "the reply was not complete",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.reason = reason
        self._retry_after = retry_after

    def get_wait_s(self, clock: Clock) -> float | None:
        """The `Retry-After` time in seconds (RFC 9110, section 10.2.3); None when there is none, or it is malformed."""
        value = (self._retry_after or "").strip()
        if value.isascii() and value.isdecimal():
            # Nobody waits longer than nine digits of seconds, and `float` refuses very long numbers.
            return float(value[:9])
        try:
            return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
        except (TypeError, ValueError):
            return None


class ReplyTooLong(ProviderError):
    """The model does not stop. What came of the reply before can be used."""


def make_error(provider: str, failure: str, status: int | None = None, retry_after: str | None = None) -> ProviderError:
    """Log a failure, without the server's text, and make the error to raise. `status` None: no complete answer."""
    log.warning("provider_failed", provider=provider, failure=failure, status=status)
    return ProviderError(_classify_status(status), retry_after, _explain_status(status))


def make_error_from(provider: str, error: Exception) -> ProviderError:
    """The same for an exception of `openai` or `anthropic`, which both carry the HTTP response."""
    if isinstance(error, ResponseTooLarge):
        log.warning("provider_failed", provider=provider, failure=type(error).__name__, status=None)
        return ReplyTooLong(reason="the reply was too long")
    headers = getattr(getattr(error, "response", None), "headers", {})
    status = getattr(error, "status_code", None)
    return make_error(provider, type(error).__name__, status, headers.get("retry-after"))


def _classify_status(status: int | None) -> FailureKind:
    if status in _REQUEST_STATUSES:
        return FailureKind.REQUEST
    is_transient = status is None or status < 400 or status >= 500 or status in _TRANSIENT_STATUSES
    return FailureKind.TRANSIENT if is_transient else FailureKind.PERMANENT


def _explain_status(status: int | None) -> str:
    """What a status tells whoever runs the server; the text of the answer is never repeated."""
    match status:
        case None:
            return "no complete answer came"
        case 401 | 403:
            return f"the key was refused ({status})"
        case 404:
            return "the model or the address is unknown (404)"
        case 429:
            return "too many requests, or the account's quota is used up (429)"
        case _:
            return f"the answer was status {status}"
