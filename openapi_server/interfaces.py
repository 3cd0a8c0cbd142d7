"""What we ask of the outside world. Each protocol has one contract test suite that every implementation passes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openapi_server.animals import Animal, Exchange, Fact, Prompt
from openapi_server.ledger import Allocation, Balance, Charge, LedgerEntry
from openapi_server.people import Login, Person, Role, User
from openapi_server.records import DeviceUser, IdempotencyKey, Lease, Outcome, Page, SessionRecord, TurnRecord
from openapi_server.turn import (
    AgeGroup,
    Entry,
    FinishReason,
    Moderation,
    TurnEvent,
    Usage,
)


class Clock(Protocol):
    """Both clocks: `now` to tell people the time (UTC), `monotonic` (seconds) to measure with."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is offered to clients. `max_tokens`: the longest answer that it gives."""

    model_id: str
    name: str
    description: str
    capabilities: tuple[str, ...] = ("streaming",)
    max_tokens: int = 1024


@dataclass(frozen=True, slots=True)
class Spoken:
    """The provider's last word: how it ended, what it cost, which facts it used (None: all it was given)."""

    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage()
    fact_ids: tuple[str, ...] | None = None


class Provider(Protocol):
    """A mind that speaks for an animal.

    `speak` yields non-empty pieces of text and then exactly one `Spoken`. Closing the generator cancels the
    work behind it. It raises `ProviderFailed` and nothing else of its own.
    """

    @property
    def model(self) -> str:
        """The model's id, as visitors see it in `metadata.model`."""

    def models(self) -> Sequence[Model]:
        """The models that can be had here; `model` is the id of one of them."""

    def speak(self, prompt: Prompt) -> AsyncGenerator[str | Spoken, None]: ...


class OneModel:
    """What a provider with a single model has to say of it."""

    model = ""

    def models(self) -> Sequence[Model]:
        return (Model(self.model, self.model, "The one mind of this server."),)


class Knowledge(Protocol):
    """What the keepers know, and how it is found."""

    def animals(self) -> Sequence[Animal]:
        """Every animal, in the order of their ids."""

    def animal(self, animal_id: str) -> Animal | None: ...

    def wished(self, message: str) -> Animal | None:
        """The active animal that the visitor asks to talk with; None when the message asks for none."""

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        """Candidate facts for the question, best first; empty when the keepers know nothing about it."""

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        """The few facts to answer from, best first: suited to the age, not told a moment ago."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of a visitor's message. `safe_words` replaces the animal's own reply when set."""

    moderation: Moderation = Moderation()
    safe_words: str | None = None


class Moderator(Protocol):
    """The rules that stand between a visitor and the model."""

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict: ...


class Tail(Protocol):
    """One reader's place in one turn's log."""

    async def read(self, wait_s: float) -> Sequence[Entry]:
        """All entries that are new, waiting at most `wait_s` seconds for the first. Empty: none yet."""

    @property
    def is_over(self) -> bool:
        """True once the terminal entry was read: no more data, ever."""

    def close(self) -> None: ...


class EventLog(Protocol):
    """The logs of the turns: one writer each, any number of readers."""

    async def open(self, turn_id: str) -> None:
        """Make an empty log. One log per turn id, ever."""

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        """Append in one step, numbered without a gap. After a terminal event every append is refused with
        `LogClosed`; so the end of a turn happens once, whoever comes first."""

    async def entries(self, turn_id: str) -> Sequence[Entry] | None:
        """The log so far; None when it was never here or is gone."""

    async def tail(self, turn_id: str, after: int = 0) -> Tail | None:
        """A reader's place behind entry `after`; None when the log is gone."""

    async def drop(self, turn_id: str) -> None:
        """Forget the log. Readers that are still there are told that it is over."""


class LogClosed(Exception):
    """An append came after the terminal event. Whoever gets this was late, and must do nothing."""


class Store(Protocol):
    """Sessions and turns, kept until they expire. Every method is one atomic step; errors are `StoreUnavailable`.

    An expired session and its turns are not there for any reader, purged or not.
    """

    async def create_session(self, session: SessionRecord) -> None: ...

    async def session(self, session_id: str) -> SessionRecord | None: ...

    async def sessions_of(self, owner: str, limit: int, cursor: str | None = None) -> Page[SessionRecord]:
        """The owner's sessions, latest message first."""

    async def begin_turn(
        self,
        turn: TurnRecord,
        new_session: SessionRecord | None = None,
        keys: Sequence[IdempotencyKey] = (),
        charge: Charge | None = None,
    ) -> str:
        """Keep the visitor's message, with the session that it begins if that is not there, and hold the charge.

        Returns the id of the turn that runs now: this one, or the earlier one that one of the keys stands for, in
        which case nothing was changed. Raises `KeyReused` when a key stands for a request with another body,
        `TurnRunning` when the session has a turn under way, `SessionNotFound` when the session is not there,
        `InsufficientCredits` when nobody can pay. The session is the turn's animal's from now on; its first turn makes
        the `DeviceUser` of a session with a handle.
        """

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> bool:
        """Write the outcome once, and give back what the turn held of credits and did not use.

        False, and nothing changed, when the turn had one already or is gone.
        """

    async def turn(self, turn_id: str) -> TurnRecord | None: ...

    async def turns_of(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        """The session's turns, oldest first."""

    async def latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        """The session's last turns, oldest first."""

    async def turns_of_owner(self, owner: str | None, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        """The turns of all the owner's sessions, latest first; of everybody's when the owner is None."""

    async def set_session_ttl(self, session_id: str, ttl_s: int) -> SessionRecord | None:
        """Let the session end `ttl_s` seconds after its last message; None when it is not there."""

    async def device_user(self, user_id: str) -> DeviceUser | None:
        """Whoever holds the device whose sessions have this id."""

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        """Delete it with all its turns; the turns' ids, or None when it was not there."""

    async def running_turns(self) -> Sequence[Lease]:
        """The turns without an outcome, and who runs them."""

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> Sequence[str]:
        """Renew the leases of those that still run, and return their ids; the others have ended or are gone."""

    async def count_expired_sessions(self) -> int:
        """Sessions that are over but not purged yet."""

    async def purge_expired_sessions(self, limit: int) -> int:
        """Delete at most `limit` of them, with their turns; how many were deleted."""

    async def ping(self) -> None:
        """Raise `StoreUnavailable` unless the store can be written to now."""

    async def close(self) -> None: ...


class AccountStore(Protocol):
    """People with an account, and their logins. Every method is one atomic step; errors are `StoreUnavailable`.

    Of a refresh token only the hash comes here. A login that has ended, or whose time is over, is not there.
    """

    async def add_user(self, user: User) -> bool:
        """False, and nothing changed, when the name is taken."""

    async def user(self, username: str) -> User | None: ...

    async def users(self) -> Sequence[User]:
        """Every account, by username."""

    async def set_role(self, username: str, role: Role) -> bool:
        """False when there is no such user."""

    async def reset_password(self, username: str, password_hash: str) -> bool:
        """A new password: it ends every login of the user, and a demo account is none any more. False: no such user."""

    async def rehash_password(self, username: str, old_hash: str, new_hash: str) -> None:
        """The same password, hashed anew; nothing when it was changed meanwhile."""

    async def begin_login(self, login: Login, token_hash: str, password_hash: str) -> bool:
        """Keep the login with its first refresh token; False when the password is not that one any more."""

    async def refresh_login(self, old_hash: str, new_hash: str, expires_at: datetime) -> Login | None:
        """Replace a refresh token, and let the login last until `expires_at`; None when it is not good any more.

        Of any number of attempts with one token, one succeeds. Every further one ends the login: two holders of one
        token means that one of them stole it (RFC 9700, section 4.14.2).
        """

    async def end_login(self, login_id: str) -> None: ...

    async def person(self, username: str, login_id: str) -> Person | None:
        """The user behind a login that stands, as they are now."""


class CreditStore(Protocol):
    """What users may spend. Every method is one atomic step; errors are `StoreUnavailable`.

    A user's entries add up to their balance, once what has expired is counted as lost; no balance is below zero.
    """

    async def allocate(self, allocation: Allocation) -> LedgerEntry:
        """`UserNotFound` when there is nobody to give them to."""

    async def balance(self, username: str) -> Balance | None:
        """None when there is no such user."""

    async def entries(self, username: str, limit: int, cursor: str | None = None) -> Page[LedgerEntry]:
        """How the balance came to be, latest change first."""

    async def reserve(self, charge: Charge, turn_id: str) -> None:
        """Hold back what a turn may cost, or all there is when that is less. `InsufficientCredits`: there is none."""

    async def finish(self, turn_id: str, used: int) -> None:
        """Give back what the turn held and did not use; nothing when it holds nothing any more."""
