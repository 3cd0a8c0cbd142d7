"""What we ask of the outside world. Each protocol has one contract test suite that every implementation passes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from openapi_server.models.animal import Animal, Fact
from openapi_server.models.audit import AuditEntry
from openapi_server.models.credits import Allocation, Balance, Charge, CreditEntry
from openapi_server.models.document import Change, Document, DocumentChanges, Draft, VersionedDocument
from openapi_server.models.page import Page
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.rule import RuleChange, RuleChanges, RuleDocument, VersionedRule
from openapi_server.models.session import DeviceUser, SessionRecord
from openapi_server.models.turn import (
    AgeGroup,
    FinishReason,
    IdempotencyKey,
    Lease,
    Moderation,
    Outcome,
    TurnRecord,
    Usage,
)
from openapi_server.models.turn_events import Entry, TurnEvent
from openapi_server.models.user import AuthenticatedUser, Login, Role, User


class Clock(Protocol):
    """Both clocks: `now` to tell people the time (UTC), `monotonic` (seconds) to measure with."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is offered to clients.

    `max_tokens`: the longest answer that it gives; `prompt_tokens`: the most that it reads before, where that counts.
    """

    model_id: str
    name: str
    description: str
    capabilities: tuple[str, ...] = ("streaming",)
    max_tokens: int = 1024
    max_prompt_tokens: int = 0

    @property
    def max_turn_tokens(self) -> int:
        """What a turn costs at most."""
        return self.max_prompt_tokens + self.max_tokens


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """The provider's last word: how it ended, what it cost, which facts it used (None: all it was given).

    `model` is the one that really spoke; None: the one that `model_for` named.
    """

    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage()
    fact_ids: tuple[str, ...] | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class WholeReply:
    """All that will be said, known before its first word: it can be checked as a whole, and nothing has to wait."""

    text: str


class Provider(Protocol):
    """A mind that speaks for an animal.

    `speak` yields non-empty pieces of text and then exactly one `Spoken`; a mind that knows its whole reply yields it
    as `Composed` before. Closing the generator cancels the work behind it. It raises `ProviderFailed` and nothing else
    of its own.
    """

    @property
    def model(self) -> str:
        """The id of the model that speaks now, for animals whose keepers name no other."""

    def list_models(self) -> Sequence[Model]:
        """The models that can be had here; the first is the one that speaks where nobody asks for another."""

    def get_model(self, animal: Animal) -> Model:
        """The one that would speak for this animal now: visitors see its id in `metadata.model`."""

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]: ...


class Knowledge(Protocol):
    """What the keepers know, and how it is found."""

    def list_animals(self) -> Sequence[Animal]:
        """Every animal, in the order of their ids."""

    def get_animal(self, animal_id: str) -> Animal | None: ...

    async def refresh(self) -> None:
        """Take in what keepers have changed, in whichever process. Never fails: then what was known stays known."""

    def find_requested_animal(self, message: str) -> Animal | None:
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

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict: ...

    async def check_earlier_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        """The same of what a client says was said before: there may be fifty of these, and nobody outside is asked."""

    def mask_pii(self, text: str) -> str:
        """The text as it may be stored, logged and told to a mind: without personal data."""

    async def list_guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        """Sentences for the mind, most urgent first."""


class ReplyModerator(Protocol):
    """The rules that stand between the mind and the visitor."""

    def build_check(self, prompt: Prompt) -> Callable[[str], str | None]:
        """The check of one reply: the category of what is wrong with a text, or None."""

    def get_safe_words(self, animal: Animal, age_group: AgeGroup) -> str:
        """What the animal says in place of what was withheld."""


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

    async def create(self, turn_id: str) -> None:
        """Make an empty log. One log per turn id, ever."""

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        """Append in one step, numbered without a gap. After a terminal event every append is refused with
        `LogClosed`; so the end of a turn happens once, whoever comes first."""

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        """The log so far; None when it was never here or is gone."""

    async def open_tail(self, turn_id: str, after: int = 0) -> Tail | None:
        """A reader's place behind entry `after`; None when the log is gone."""

    async def delete(self, turn_id: str) -> None:
        """Forget the log. Readers that are still there are told that it is over."""


class LogClosed(Exception):
    """An append came after the terminal event. Whoever gets this was late, and must do nothing."""


class Store(Protocol):
    """Sessions and turns, kept until they expire. Every method is one atomic step; errors are `StoreUnavailable`.

    An expired session and its turns are not there for any reader, purged or not; nor is a turn, or a session's title
    and opening, that is older than the store keeps what was said.
    """

    async def create_session(self, session: SessionRecord) -> None: ...

    async def get_session(self, session_id: str) -> SessionRecord | None: ...

    async def list_sessions(self, owner: str, limit: int, cursor: str | None = None) -> Page[SessionRecord]:
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

    async def get_turn(self, turn_id: str) -> TurnRecord | None: ...

    async def list_turns(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        """The session's turns, oldest first."""

    async def list_latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        """The session's last turns, oldest first."""

    async def list_owner_turns(self, owner: str | None, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        """The turns of all the owner's sessions, latest first; of everybody's when the owner is None."""

    async def set_session_ttl(self, session_id: str, ttl_s: int) -> SessionRecord | None:
        """Let the session end `ttl_s` seconds after its last message; None when it is not there."""

    async def get_device_user(self, user_id: str) -> DeviceUser | None:
        """Whoever holds the device whose sessions have this id."""

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        """Delete it with all its turns, and its device's user; the turns' ids, or None when it was not there."""

    async def list_running_turns(self) -> Sequence[Lease]:
        """The turns without an outcome, and who runs them."""

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> Sequence[str]:
        """Renew the leases of those that still run, and return their ids; the others have ended or are gone."""

    async def count_expired_sessions(self) -> int:
        """Sessions that are over but not purged yet."""

    async def delete_expired_sessions(self, limit: int) -> int:
        """Delete at most `limit` of them, with their turns; how many were deleted.

        One in which a turn still runs, and whose lease is good, waits for its end.
        """

    async def delete_old_turns(self, limit: int) -> int:
        """Delete at most `limit` turns that are older than things are kept, and with the last of them all other words
        of that age; how many turns were deleted. Their sessions go on."""

    async def vacuum(self, at_most_bytes: int | None = None) -> bool:
        """Leave no copy of what was deleted in the store's files.

        False: later. Somebody reads just now, or the store is larger than `at_most_bytes` and would be busy too long.
        """

    async def ping(self) -> None:
        """Raise `StoreUnavailable` unless the store can be written to now."""

    async def close(self) -> None: ...


class AccountStore(Protocol):
    """Accounts and their logins. Every method is one atomic step; errors are `StoreUnavailable`.

    Of refresh tokens only hashes are stored. A login that has ended or expired does not exist for any method.
    """

    async def create_user(self, user: User) -> bool:
        """False, and nothing changed, when the name is taken."""

    async def get_user(self, username: str) -> User | None: ...

    async def list_users(self) -> Sequence[User]:
        """All accounts, by username."""

    async def set_role(self, username: str, role: Role) -> bool:
        """False when there is no such user."""

    async def reset_password(self, username: str, password_hash: str) -> bool:
        """Set a new password, end every login of the user, and clear `is_demo`. False when there is no such user."""

    async def rehash_password(self, username: str, old_hash: str, new_hash: str) -> None:
        """Replace the hash of an unchanged password; nothing when the password was changed meanwhile."""

    async def create_login(self, login: Login, token_hash: str, password_hash: str) -> bool:
        """Store a login with its first refresh token. False when the password was changed meanwhile."""

    async def refresh_login(self, old_hash: str, new_hash: str, expires_at: datetime) -> Login | None:
        """Replace a refresh token and extend the login; None when the token is not valid (any more).

        Refresh tokens are single-use. When a token is used a second time the login ends: two parties hold it, so one
        of them has stolen it (RFC 9700, section 4.14.2).
        """

    async def end_login(self, login_id: str) -> None: ...

    async def get_authenticated_user(self, username: str, login_id: str) -> AuthenticatedUser | None:
        """The user of an active login, with the role and the children that they have now."""


class CreditStore(Protocol):
    """What users may spend. Every method is one atomic step; errors are `StoreUnavailable`.

    `Store.begin_turn` reserves credits and `Store.settle_turn` refunds what was not used. A user's entries add up to
    the balance, once expired credits are counted as lost; no balance is below zero.
    """

    async def allocate_credits(self, allocation: Allocation) -> CreditEntry:
        """Raises `UserNotFound`."""

    async def get_balance(self, username: str) -> Balance | None:
        """None when there is no such user."""

    async def list_entries(self, username: str, limit: int, cursor: str | None = None) -> Page[CreditEntry]:
        """All changes of the balance, latest first."""


class DocumentStore(Protocol):
    """What the keepers wrote. Every method is one atomic step; errors are `StoreUnavailable`.

    Each change is an entry of the animal's history, and its number is the animal's version from then on.
    """

    async def seed(self, documents: Sequence[Document], by: str, at: datetime) -> bool:
        """Keep them all; False, and nothing changed, when there is an animal already."""

    async def list_changes(self, since: int) -> DocumentChanges:
        """What has changed after that version; since 0 it is everything. Cheap when there is nothing."""

    async def get_document(self, animal_id: str) -> VersionedDocument | None: ...

    async def add(self, change: Change, document: Document) -> VersionedDocument | None:
        """None, and nothing changed, when the id is taken."""

    async def replace(self, change: Change, version: int, document: Document) -> VersionedDocument | None:
        """None, and nothing changed, when the animal is not at that version any more."""

    async def delete_document(self, change: Change, version: int) -> bool:
        """Its draft goes with it, its history stays. False when the animal is not at that version any more."""

    async def list_history(self, animal_id: str, limit: int, cursor: str | None = None) -> Page[Change]:
        """Latest change first; also of an animal that is gone."""

    async def get_draft(self, animal_id: str) -> Draft | None: ...

    async def put_draft(self, draft: Draft) -> bool:
        """In place of the same keeper's earlier one. False, and nothing changed, when there is no such animal, or when
        another keeper has a draft of it."""

    async def delete_draft(self, animal_id: str) -> bool:
        """False when there was none."""

    async def promote_draft(self, change: Change, version: int, draft: Draft) -> VersionedDocument | None:
        """Replace the animal by its draft, which is no draft any more.

        None, and nothing changed, when the animal is not at that version, or the draft not this one, any more.
        """


class RuleStore(Protocol):
    """The rules that keepers wrote. Every method is one atomic step; errors are `StoreUnavailable`.

    The number of a change is the rule's version from then on.
    """

    async def list_changes(self, since: int) -> RuleChanges | None:
        """All rules as they are now; None when nothing has changed after that version. Cheap then."""

    async def get_document(self, name: str) -> VersionedRule | None: ...

    async def put_document(
        self, change: RuleChange, version: int | None, document: RuleDocument
    ) -> VersionedRule | None:
        """Write it over the one at that version; None: where there is none. None, and nothing changed, when it is not
        so any more."""

    async def delete_document(self, change: RuleChange, version: int) -> bool:
        """False when the rule is not at that version any more."""


class AuditTrail(Protocol):
    """Who did what to whose data, until it is deleted by age. Errors are `StoreUnavailable`."""

    async def record(self, entry: AuditEntry) -> None: ...

    async def list_entries(
        self, limit: int, since: datetime | None = None, cursor: str | None = None
    ) -> Page[AuditEntry]:
        """Latest first; none from before `since`."""

    async def delete_before(self, at: datetime, limit: int) -> int:
        """Delete at most `limit` entries from before that time. Returns how many were deleted."""


class PersonalDataStore(Protocol):
    """All data of one person. Every method is one atomic step; errors are `StoreUnavailable`."""

    async def export(self, subject: DataSubject) -> PersonalData:
        """All of it. Data that has expired is deleted by this call and is not part of the export."""

    async def erase(self, subject: DataSubject, *, with_account: bool = False) -> Erasure:
        """Delete all of it, also what has expired.

        Without `with_account` the account stays, and its credit entries as amounts and times. With it, its logins and
        credits are deleted, too, and its name is replaced everywhere else. `Store.vacuum` removes copies in files.
        """
