"""The errors of the server, each with a code, an HTTP status and a title for people.

`http/error_handlers.py` and `wire/problem.py` turn them into answers (RFC 9457).
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
    """The base class of all errors that are raised on purpose. By itself it is the unexpected error, a 500.

    `meaning` and `remedy` are for `GET /problems/{code}`: what has happened, and what a client can do about it.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = False
    meaning: ClassVar[str] = (
        "The server met an error that it does not expect. Its log has the details, under the request id of "
        "the answer's `X-Request-Id`."
    )
    remedy: ClassVar[str] = "Repeat the request once. If it fails again, tell whoever runs the server the request id."

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
    meaning = (
        "A header, a parameter or a member of the body is missing or has a value that is not allowed. "
        "`errors` names each such field."
    )
    remedy = "Correct the fields that `errors` names, and send the request again."

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
    meaning = (
        "A text of a keeper breaks a rule for replies: no animal would be allowed to say it. `errors` names "
        "the field and the rule."
    )
    remedy = (
        "Write the text in another way. `POST /api/v1/guardrails/validate` tells beforehand which rules a text breaks."
    )


class LoginRequired(ChatError):
    code, status, title = "login_required", 401, "Who are you"
    meaning = "The operation is for logged-in users, and the request has no access token."
    remedy = "Log in with `POST /auth/login`, and send the access token as `Authorization: Bearer`."


class InvalidToken(ChatError):
    code, status, title = "invalid_token", 401, "The access token is not valid"
    meaning = "The access token has expired, was revoked, or was not issued by this server."
    remedy = "Get new tokens with `POST /auth/refresh`, or log in again."


class BadCredentials(ChatError):
    code, status, title = "bad_credentials", 401, "The username or the password is wrong"
    meaning = "The username or the password is wrong, or the refresh token is not valid any more."
    remedy = "Check both, and log in again. After several wrong passwords logins are locked for a while."


class InsufficientCredits(ChatError):
    code, status, title = "insufficient_credits", 402, "There are no credits left"
    meaning = "The account has no credits left for the turn. Nothing was started."
    remedy = "Ask an administrator for credits. `GET /credits/balance` tells how many there are."


class Forbidden(ChatError):
    code, status, title = "forbidden", 403, "Your role may not do this"
    meaning = "The caller is known, but the operation needs a higher role."
    remedy = "Use an account with the role that `detail` names."


class UserNotFound(ChatError):
    code, status, title = "user_not_found", 404, "No such user"
    meaning = "There is no user of this name, or the caller may not see it."
    remedy = "Check the name. Parents see their children, administrators everybody."


class SessionStreaming(ChatError):
    code, status, title = "session_streaming", 400, "The session already streams"
    retryable = True
    meaning = (
        "A reply of this session is being streamed, and a session has one turn at a time. `turnId` names the "
        "running one."
    )
    remedy = "Wait for its end, confirm it with `update-stream`, or send `onBusy` with the message."


class StreamMismatch(ChatError):
    code, status, title = "streaming_session_mismatch", 400, "Streaming session ID mismatch"
    meaning = "The confirmation names another stream than the last one of the session."
    remedy = "Send the `X-Streaming-Session-Id` of the session's last stream."


class SessionNotFound(ChatError):
    code, status, title = "session_not_found", 404, "No such session"
    meaning = "There is no session of this id, or it belongs to another caller. The answer is the same for both."
    remedy = (
        "Check the id, and send the cookie, login or `X-Session-Token` with which the session began. Without "
        "an id a new session begins."
    )


class SessionClaimed(ChatError):
    """Somebody has claimed the session since it was looked up by its name. Looked up again, it is another one."""

    code, status, title = "session_claimed", 409, "Somebody else has just claimed the session"
    retryable = True
    meaning = "Somebody else has claimed the session of this name between two steps of the request."
    remedy = "Repeat the request: it finds or begins another session."


class TurnNotFound(ChatError):
    code, status, title = "turn_not_found", 404, "No such turn"
    meaning = "There is no turn of this id, or it belongs to another caller. The answer is the same for both."
    remedy = "Check the id, and send the cookie, login or `X-Session-Token` with which the turn began."


class JobNotFound(ChatError):
    code, status, title = "job_not_found", 404, "Job not found"
    meaning = "There is no job of this id, or it belongs to another caller. The answer is the same for both."
    remedy = "Check the id, and send the cookie or login with which the job was started."


class AnimalNotFound(ChatError):
    code, status, title = "animal_not_found", 404, "No such animal"
    meaning = "No animal of this id lives in the zoo, or it has retired and does not talk."
    remedy = "`GET /animal_list` lists the animals."


class FactNotFound(ChatError):
    code, status, title = "fact_not_found", 404, "No such fact"
    meaning = "The animal has no fact of this id."
    remedy = "`GET /animal/{animalId}/facts` lists its facts."


class DraftNotFound(ChatError):
    code, status, title = "draft_not_found", 404, "No draft of this animal"
    meaning = "The animal has no draft."
    remedy = "Make one with `POST /animal/{animalId}/draft`."


class RuleNotFound(ChatError):
    code, status, title = "rule_not_found", 404, "No such rule"
    meaning = "There is no rule of this name."
    remedy = "`GET /api/v1/guardrails/rules` lists the rules."


class NotFound(ChatError):
    code, status, title = "not_found", 404, "Not found"
    meaning = "The server has no such address."
    remedy = "Check the path. `GET /openapi.json` describes all addresses."


class MethodNotAllowed(ChatError):
    code, status, title = "method_not_allowed", 405, "This address does not take that method"
    meaning = "The address exists, but not for this method. The header `Allow` lists the methods that it takes."
    remedy = "Use one of those methods."


class NotAcceptable(ChatError):
    code, status, title = "not_acceptable", 406, "No answer of the kind you accept"
    meaning = "The operation has no answer of a media type that the header `Accept` allows."
    remedy = "Accept one of the media types that `detail` names, or send no `Accept`."


class TurnRunning(ChatError):
    code, status, title = "turn_running", 409, "This session already has a turn running"
    retryable = True
    meaning = (
        "An earlier message of the session has not been answered, and this one may not wait. `turnId` names "
        "the running turn."
    )
    remedy = "Wait for its end, read along with it, stop it, or send `onBusy` with the message."


class TurnElsewhere(ChatError):
    code, status, title = "turn_elsewhere", 409, "The turn runs in another process of this server"
    retryable = True
    meaning = (
        "The turn runs in another process of the server, and the processes do not share their events, or they cannot "
        "be read now."
    )
    remedy = (
        "Poll the turn's state, or try again in a moment. Whoever runs the server can share the events "
        "between processes."
    )


class RequestRunning(ChatError):
    code, status, title = "request_running", 409, "An earlier request with this Idempotency-Key still runs"
    retryable = True
    meaning = "An earlier request with the same `Idempotency-Key` has not been answered."
    remedy = "Repeat the request in a moment: it gets the same answer."


class AnimalExists(ChatError):
    code, status, title = "animal_exists", 409, "An animal with this id is here already"
    meaning = "The zoo has an animal of this id."
    remedy = "Choose another id, or change the animal with `PUT /animal/{animalId}`."


class DraftExists(ChatError):
    code, status, title = "draft_exists", 409, "Another keeper has a draft of this animal"
    meaning = "Another keeper has a draft of the animal, which would be lost."
    remedy = "Promote or delete that draft first."


class AnimalNeeded(ChatError):
    code, status, title = "animal_needed", 409, "The zoo cannot do without this animal"
    meaning = "The animal is the zoo's default animal, which can neither retire nor be deleted."
    remedy = "Make another animal the default (`DEFAULT_ANIMAL`) first."


class RulePackaged(ChatError):
    code, status, title = "rule_packaged", 409, "The rule comes with the server"
    meaning = "The rule comes with the server, so it cannot be deleted."
    remedy = 'Switch it off: `PUT` it with `"enabled": false`.'


class TooManyRules(ChatError):
    code, status, title = "too_many_rules", 409, "There is no room for another rule"
    meaning = "The keepers have as many rules of their own as there may be."
    remedy = "Delete a rule that is no longer needed, or add keywords to an existing one."


class VersionMismatch(ChatError):
    code, status, title = "version_mismatch", 412, "Somebody else has changed it meanwhile"
    meaning = "`If-Match` names another version than the current one: somebody else has made a change."
    remedy = "Read it again, and make the change to what it is now."


class VersionRequired(ChatError):
    code, status, title = "version_required", 428, "Say which version you have seen"
    meaning = "The change has no `If-Match`, so it could overwrite another one."
    remedy = "Read it first, and send its `ETag` as `If-Match`."


class LogGone(ChatError):
    code, status, title = "log_gone", 410, "The turn's events are gone"
    meaning = "The turn's events are no longer stored from the position that was asked for, or the last ones are lost."
    remedy = "Read the stored reply at `GET /convo_turn/{turnId}`, to which the header `Link` leads."


class KeyReused(ChatError):
    code, status, title = "key_reused", 422, "The Idempotency-Key was used for another request"
    meaning = "The `Idempotency-Key` was used with another request within the last day."
    remedy = "Send a new key with each new request."


class ResumeMismatch(ChatError):
    code, status, title = "resume_mismatch", 422, "The request is not the one that Last-Event-ID resumes"
    meaning = "`Last-Event-ID` names a turn that was begun by another message."
    remedy = "Resume with the request that began the turn, or send no `Last-Event-ID`."


class BodyTooLarge(ChatError):
    code, status, title = "body_too_large", 413, "The request body is too large"
    meaning = "The body of the request is larger than the server reads."
    remedy = "Send less. `detail` tells the limit."


class UnsupportedMediaType(ChatError):
    code, status, title = "unsupported_media_type", 415, "The request body is of a kind we do not read"
    meaning = "The body is not of a media type that the operation takes, or it is compressed, or not in UTF-8."
    remedy = "Send JSON in UTF-8 with `Content-Type: application/json`."


class AnimalMismatch(ChatError):
    code, status, title = "animal_mismatch", 422, "The session belongs to another animal"
    meaning = "The session is a conversation with another animal."
    remedy = "Leave the session's id out to talk with this animal in a new session."


class RequestTimeout(ChatError):
    code, status, title = "request_timeout", 408, "The request took too long to arrive"
    retryable = True
    meaning = "The body of the request did not arrive in time."
    remedy = "Send the request again."


class HeadersTooLarge(ChatError):
    code, status, title = "headers_too_large", 431, "The request headers are too large"
    meaning = "The headers of the request are larger than the server reads."
    remedy = "Send fewer or shorter headers. Often a cookie has grown too large."


class RateLimited(ChatError):
    code, status, title = "rate_limited", 429, "Too many requests"
    retryable = True
    meaning = (
        "The caller or its address has sent more requests, or has more streams open, than the limit that "
        "`RateLimit-Policy` names."
    )
    remedy = "Repeat the request after the seconds in `Retry-After`."


class LoginLocked(ChatError):
    code, status, title = "login_locked", 429, "Too many wrong passwords"
    retryable = True
    meaning = "Too many wrong passwords were tried for this name or from this address."
    remedy = "Wait for the seconds in `Retry-After`, then log in with the right password."


class LoginsBusy(ChatError):
    code, status, title = "logins_busy", 503, "Too many people are logging in"
    retryable = True
    meaning = "More people are logging in than the server can check at once."
    remedy = "Repeat the request after the seconds in `Retry-After`."


class Overloaded(ChatError):
    code, status, title = "overloaded", 503, "Too many visitors are talking at once"
    retryable = True
    meaning = "More messages wait for their answers than the server can begin soon. Nothing was started."
    remedy = "Repeat the request after the seconds in `Retry-After`."


class StoreUnavailable(ChatError):
    code, status, title = "store_unavailable", 503, "Our memory is away for a moment"
    retryable = True
    meaning = "The database cannot be read or written now."
    remedy = "Repeat the request in a moment. Whoever runs the server finds the cause with `zoochat doctor`."


class Draining(ChatError):
    code, status, title = "draining", 503, "The server is about to restart"
    retryable = True
    meaning = "The server is shutting down, and takes no new turns."
    remedy = "Repeat the request after the seconds in `Retry-After`."


class SessionDeleted(ChatError):
    code, status, title = "session_deleted", 410, "The session was deleted"
    meaning = "The session was deleted while the turn ran."
    remedy = "Begin a new session."


class ProviderFailed(ChatError):
    code, status, title = "provider_failed", 502, "The animal lost its voice"
    retryable = True
    meaning = "The language model failed before the reply was complete. What was said until then is kept."
    remedy = "Send the message again."


class TurnTimeout(ChatError):
    code, status, title = "turn_timeout", 504, "The animal took too long to answer"
    retryable = True
    meaning = "The reply took longer than a turn may take."
    remedy = "Send the message again."


class IdleTimeout(ChatError):
    code, status, title = "IDLE_TIMEOUT", 504, "The animal fell silent"
    retryable = True
    meaning = "The model said nothing for too long, so the turn was ended."
    remedy = "Send the message again."


class Interrupted(ChatError):
    code, status, title = "interrupted", 503, "The server stopped before the animal had finished"
    retryable = True
    meaning = "The server was stopped before the reply was complete. What was said until then is kept."
    remedy = "Send the message again."


def list_error_types() -> list[type[ChatError]]:
    """All errors that an answer can have, by their codes."""
    found: dict[str, type[ChatError]] = {}
    waiting: list[type[ChatError]] = [ChatError]
    while waiting:
        error_type = waiting.pop()
        found[error_type.code] = error_type
        waiting += [each for each in error_type.__subclasses__() if each.__module__ == __name__]
    return [found[code] for code in sorted(found, key=str.lower)]
