"""The errors of the server, each with a code, an HTTP status and a title for people.

`http/problems.py` and `wire/problem.py` turn them into answers (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of the input. `field` is a dotted path such as `metadata.size`."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An RFC 9457 problem as a value, which can be stored and logged. It never holds text of another library.

    `retryable`: the same request may succeed later. `details` are further members of the problem object, as
    (name, value).
    """

    code: str
    status: int
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    turn_id: str | None = None
    retryable: bool = False
    details: tuple[tuple[str, str | None], ...] = ()


class ChatError(Exception):
    """The base class of all errors that are raised on purpose. By itself it is the unexpected error, a 500."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        turn_id: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        details: tuple[tuple[str, str | None], ...] = (),
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or f"{self.title}."
        self.errors = errors
        self.turn_id = turn_id
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        self.details = details

    @property
    def problem(self) -> Problem:
        return Problem(
            code=self.code,
            status=self.status,
            title=self.title,
            detail=self.detail,
            errors=self.errors,
            turn_id=self.turn_id,
            retryable=self.retryable,
            details=self.details,
        )


class InvalidInput(ChatError):
    code, status, title = "invalid_input", 400, "The request is not valid"

    @classmethod
    def for_fields(cls, *errors: FieldError, headers: Mapping[str, str] | None = None) -> InvalidInput:
        """The error of a request with these wrong fields; its sentence names the first."""
        return cls(f"{errors[0].field}: {errors[0].message}", errors=errors, headers=headers)

    @classmethod
    def for_field(cls, field: str, message: str, headers: Mapping[str, str] | None = None) -> InvalidInput:
        """The error of a request with one wrong field.

        >>> InvalidInput.for_field("age", "must be at least 0").detail
        'age: must be at least 0'
        """
        return cls.for_fields(FieldError(field, message), headers=headers)


class RuleBroken(InvalidInput):
    code, status, title = "rule_broken", 422, "The text breaks a rule for replies"


class LoginRequired(ChatError):
    code, status, title = "login_required", 401, "Who are you"


class InvalidToken(ChatError):
    code, status, title = "invalid_token", 401, "The access token is not valid"


class BadCredentials(ChatError):
    code, status, title = "bad_credentials", 401, "The username or the password is wrong"


class InsufficientCredits(ChatError):
    code, status, title = "insufficient_credits", 402, "There are no credits left"


class Forbidden(ChatError):
    code, status, title = "forbidden", 403, "Your role may not do this"


class UserNotFound(ChatError):
    code, status, title = "user_not_found", 404, "No such user"


class SessionStreaming(ChatError):
    code, status, title = "session_streaming", 400, "The session already streams"
    retryable = True


class StreamMismatch(ChatError):
    code, status, title = "streaming_session_mismatch", 400, "Streaming session ID mismatch"


class SessionNotFound(ChatError):
    code, status, title = "session_not_found", 404, "No such session"


class SessionClaimed(ChatError):
    """Somebody has claimed the session since it was looked up by its name. Looked up again, it is another one."""

    code, status, title = "session_claimed", 409, "Somebody else has just claimed the session"
    retryable = True


class TurnNotFound(ChatError):
    code, status, title = "turn_not_found", 404, "No such turn"


class JobNotFound(ChatError):
    code, status, title = "job_not_found", 404, "Job not found"


class AnimalNotFound(ChatError):
    code, status, title = "animal_not_found", 404, "No such animal"


class FactNotFound(ChatError):
    code, status, title = "fact_not_found", 404, "No such fact"


class DraftNotFound(ChatError):
    code, status, title = "draft_not_found", 404, "No draft of this animal"


class RuleNotFound(ChatError):
    code, status, title = "rule_not_found", 404, "No such rule"


class NotFound(ChatError):
    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowed(ChatError):
    code, status, title = "method_not_allowed", 405, "This address does not take that method"


class NotAcceptable(ChatError):
    code, status, title = "not_acceptable", 406, "No answer of the kind you accept"


class TurnRunning(ChatError):
    code, status, title = "turn_running", 409, "This session already has a turn running"
    retryable = True


class TurnElsewhere(ChatError):
    code, status, title = "turn_elsewhere", 409, "The turn runs in another process of this server"
    retryable = True


class RequestRunning(ChatError):
    code, status, title = "request_running", 409, "An earlier request with this Idempotency-Key still runs"
    retryable = True


class AnimalExists(ChatError):
    code, status, title = "animal_exists", 409, "An animal with this id is here already"


class DraftExists(ChatError):
    code, status, title = "draft_exists", 409, "Another keeper has a draft of this animal"


class AnimalNeeded(ChatError):
    code, status, title = "animal_needed", 409, "The zoo cannot do without this animal"


class RulePackaged(ChatError):
    code, status, title = "rule_packaged", 409, "The rule comes with the server"


class TooManyRules(ChatError):
    code, status, title = "too_many_rules", 409, "There is no room for another rule"


class VersionMismatch(ChatError):
    code, status, title = "version_mismatch", 412, "Somebody else has changed it meanwhile"


class VersionRequired(ChatError):
    code, status, title = "version_required", 428, "Say which version you have seen"


class LogGone(ChatError):
    code, status, title = "log_gone", 410, "The turn's events are gone"


class KeyReused(ChatError):
    code, status, title = "key_reused", 422, "The Idempotency-Key was used for another request"


class ResumeMismatch(ChatError):
    code, status, title = "resume_mismatch", 422, "The request is not the one that Last-Event-ID resumes"


class BodyTooLarge(ChatError):
    code, status, title = "body_too_large", 413, "The request body is too large"


class UnsupportedMediaType(ChatError):
    code, status, title = "unsupported_media_type", 415, "The request body is of a kind we do not read"


class AnimalMismatch(ChatError):
    code, status, title = "animal_mismatch", 422, "The session belongs to another animal"


class RequestTimeout(ChatError):
    code, status, title = "request_timeout", 408, "The request took too long to arrive"
    retryable = True


class HeadersTooLarge(ChatError):
    code, status, title = "headers_too_large", 431, "The request headers are too large"


class RateLimited(ChatError):
    code, status, title = "rate_limited", 429, "Too many requests"
    retryable = True


class LoginLocked(ChatError):
    code, status, title = "login_locked", 429, "Too many wrong passwords"
    retryable = True


class LoginsBusy(ChatError):
    code, status, title = "logins_busy", 503, "Too many people are logging in"
    retryable = True


class StoreUnavailable(ChatError):
    code, status, title = "store_unavailable", 503, "Our memory is away for a moment"
    retryable = True


class Draining(ChatError):
    code, status, title = "draining", 503, "The server is about to restart"
    retryable = True


class SessionDeleted(ChatError):
    code, status, title = "session_deleted", 410, "The session was deleted"


class ProviderFailed(ChatError):
    code, status, title = "provider_failed", 502, "The animal lost its voice"
    retryable = True


class TurnTimeout(ChatError):
    code, status, title = "turn_timeout", 504, "The animal took too long to answer"
    retryable = True


class IdleTimeout(ChatError):
    code, status, title = "IDLE_TIMEOUT", 504, "The animal fell silent"
    retryable = True


class Interrupted(ChatError):
    code, status, title = "interrupted", 503, "The server stopped before the animal had finished"
    retryable = True
