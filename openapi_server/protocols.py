"""What the server needs from storage, model providers, moderation and its clock, as protocols.

Every implementation of a protocol passes that protocol's suite in `tests/contracts/`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from openapi_server.models.animal import Animal, Fact
from openapi_server.models.audit import AuditEntry
from openapi_server.models.credits import Allocation, Balance, Charge, CreditEntry, DailyUsage
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.page import Page
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.session import ALL_SESSIONS, SessionClaim, SessionFilter, SessionRecord
from openapi_server.models.turn import (
    AgeGroup,
    FinishReason,
    IdempotencyKey,
    Lease,
    Moderation,
    Outcome,
    TurnOwnership,
    TurnRecord,
    Usage,
)
from openapi_server.models.turn_events import Entry, Failed, TurnEvent
from openapi_server.models.user import AuthenticatedUser, Login, Role, User
from openapi_server.models.versioned_document import Change, Document, DocumentChanges, Draft, VersionedDocument


class Clock(Protocol):
    """`now` is the time of day in UTC; `monotonic` is in seconds, for measuring durations."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Model:
    """A language model as clients see it in the list of models.

    `max_tokens` is the longest reply, `max_prompt_tokens` the longest prompt (0 where no model reads one).
    """

    model_id: str
    name: str
    description: str
    capabilities: tuple[str, ...] = ("streaming",)
    max_tokens: int = 1024
    max_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """The last item of a reply's stream.

    `fact_ids` are the facts that the reply used, None for all facts of the prompt. `model` is the id of the model that
    generated it, None for the one that `get_model` named.
    """

    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage()
    fact_ids: tuple[str, ...] | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class WholeReply:
    """The whole text of a reply, known before its first piece: it is checked at once, and sent unbuffered."""

    text: str


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The provider is at work, but there is no text yet: its model thinks, or its server says that it has not ended."""


KEEP_ALIVE = KeepAlive()


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What the last turn met that called the model. `failure`: why it got no reply, for whoever runs the server.

    `at` None: no turn has called it yet.
    """

    at: datetime | None = None
    failure: str | None = None

    @property
    def is_up(self) -> bool:
        return self.failure is None


class Provider(Protocol):
    """A model provider: generates the animals' replies."""

    @property
    def model(self) -> str:
        """The id of the model in use for animals whose settings name no other."""

    def list_models(self) -> Sequence[Model]:
        """The models on offer; the first is the default."""

    def get_model(self, animal: Animal) -> Model:
        """The model that would answer for this animal now. Clients see its id in `metadata.model`."""

    def get_state(self) -> ProviderState:
        """What the last turns met. Nothing is called."""

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | KeepAlive | ReplyEnd, None]:
        """Non-empty pieces of text, then exactly one `ReplyEnd`; a `KeepAlive` whenever it works without any text.

        A provider that knows its whole reply beforehand yields it first as a `WholeReply`. Closing the generator
        cancels the request behind it. Raises `ProviderFailed`, and no errors of the provider's library.
        """


class Knowledge(Protocol):
    """The animals and their facts, and retrieval of facts for a question."""

    def list_animals(self) -> Sequence[Animal]:
        """Every animal, ordered by id."""

    def get_animal(self, animal_id: str) -> Animal | None: ...

    async def refresh(self) -> None:
        """Load what keepers have changed, in any process. Never raises: on an error the loaded animals stay in use."""

    def find_requested_animal(self, message: str) -> Animal | None:
        """The active animal that the visitor asks to talk to; None when the message asks for none."""

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        """Candidate facts for the question, best first; empty when no fact matches."""

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        """The few facts to answer from, best first: suitable for the age group, and not told a moment ago."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a visitor's message. `safe_words`, when set, replace the animal's reply.

    `guidance`: instructions for the model, the most urgent first, for a message that may be answered.
    """

    moderation: Moderation = Moderation()
    safe_words: str | None = None
    guidance: tuple[str, ...] = ()


class Moderator(Protocol):
    """Checks visitors' messages before a model gets them."""

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        """Check a message whose personal data is masked. `original`: as the visitor wrote it.

        What a mask takes may be more than personal data, so our own rules judge both; no other service sees `original`.
        """

    async def check_earlier_message(
        self, message: str, animal: Animal, age_group: AgeGroup, original: str = ""
    ) -> Verdict:
        """Check a message of the history that a client sends. There may be fifty, so no remote service is called."""

    def mask_pii(self, text: str) -> str:
        """The text without personal data, as it may be stored, logged and sent to a model."""

    async def list_guidance(
        self, animal: Animal, age_group: AgeGroup, message: str = "", original: str = ""
    ) -> tuple[str, ...]:
        """The guidance of a message that need not be checked."""


class ReplyModerator(Protocol):
    """Checks models' replies before a visitor gets them."""

    def build_check(self, prompt: Prompt) -> Callable[[str], str | None]:
        """The check of one reply: returns the category of what is wrong with a text, or None."""

    def get_safe_words(self, animal: Animal, age_group: AgeGroup) -> str:
        """What the animal says in place of withheld text."""


class Tail(Protocol):
    """A reader's position in the log of one turn."""

    async def read(self, wait_s: float) -> Sequence[Entry]:
        """All new entries. Waits up to `wait_s` seconds for the first; empty when there was none in that time."""

    @property
    def is_over(self) -> bool:
        """True once the terminal entry was read, or the log was deleted: there will be no more entries."""

    @property
    def ending(self) -> Failed | None:
        """How the turn ended, where another process than its own tells it: behind the last entry, without a number."""

    @property
    def is_cut_off(self) -> bool:
        """The reading has ended because this process does. The turn goes on in another one."""

    def close(self) -> None: ...


class Signal(StrEnum):
    """What a process is told of one of its turns by another process, or by the log.

    `STOP` it. Somebody `READ`s it elsewhere. It was `DELETE`d elsewhere. It was `FENCED`: another process has taken it
    over, and nothing more may be written.
    """

    STOP = "stop"
    READ = "read"
    DELETE = "delete"
    FENCED = "fenced"


class EventLog(Protocol):
    """The event logs of turns. A log has one writer and any number of readers.

    A log may be shared by the processes of a server. Then turns of other processes can be read, too, and the writer
    waits for nobody.
    """

    @property
    def is_shared(self) -> bool: ...

    async def create(self, turn_id: str) -> None:
        """Create an empty log. A turn id gets one log; it is never used again."""

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        """Append the events in one step, numbered without gaps.

        Raises `LogClosed` after a terminal event. So a turn ends exactly once, whoever tries to end it first.
        """

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        """All entries so far; None when there is no log, or it has expired.

        This and `open_tail` raise `HistoryLost`, and `LogUnavailable` for turns of other processes.
        """

    async def open_tail(self, turn_id: str, after: int = 0) -> Tail | None:
        """A tail that reads from the entry behind number `after`; None when there is no log.

        Raises `EntryAhead` when there is no such entry yet.
        """

    async def delete(self, turn_id: str) -> None:
        """Delete the log. For tails that are still open it is over."""

    async def end(self, turn_id: str, event: Failed) -> None:
        """Tell the readers of another process's turn how it ended. Nothing when its log is closed already.

        The owner can append nothing from then on.
        """

    def renew(self, turn_ids: Sequence[str]) -> None:
        """The store has just said that these turns are this process's: keep their logs, however quiet they are."""

    async def signal(self, turn_id: str, signal: Signal) -> bool:
        """Tell the process that runs the turn. False when no such process hears it."""

    def listen(self, on_signal: Callable[[Signal, str], None]) -> None:
        """Set the function that is called with each signal to this process, and the turn's id."""

    def list_quiet(self, quiet_s: float) -> Sequence[str]:
        """The ids of turns of other processes that are read here, and that have had no entry for so many seconds."""

    def cut_off(self) -> None:
        """End the tails of turns of other processes: this process ends."""


class LogClosed(Exception):
    """An append came after the terminal event, or after the log was deleted. The writer has nothing more to do."""


class EntryAhead(Exception):
    """A tail was to begin behind an entry that there is not."""


class HistoryLost(Exception):
    """Entries that were there are gone, and nobody will write them again."""


class LogUnavailable(Exception):
    """The log of another process's turn cannot be read now."""


class Store(Protocol):
    """Sessions and turns. Every method is one atomic step. Raises `StoreUnavailable`.

    Expired sessions and their turns are invisible to every reader, even before they are deleted. So are turns, and
    the titles and openings of sessions, that are older than the retention time.
    """

    async def create_session(self, session: SessionRecord) -> None: ...

    async def get_session(self, session_id: str) -> SessionRecord | None: ...

    async def find_named_sessions(
        self, session_ids: Sequence[str], owner: str | None, name_key: str
    ) -> Sequence[SessionRecord]:
        """The sessions with one of the ids, and those of the owner with that name, latest message first."""

    async def list_sessions(
        self, owner: str, limit: int, cursor: str | None = None, only: SessionFilter = ALL_SESSIONS
    ) -> Page[SessionRecord]:
        """The owner's sessions that the filter lets through, latest message first."""

    async def count_messages(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """How many messages each of the sessions has: its opening, the visitor's messages and the replies."""

    async def begin_turn(
        self,
        turn: TurnRecord,
        new_session: SessionRecord | None = None,
        keys: Sequence[IdempotencyKey] = (),
        charge: Charge | None = None,
        claim: SessionClaim | None = None,
        max_queued: int = 0,
    ) -> str:
        """Store a running turn with its idempotency keys, reserve its credits, and create its session if it is new.

        A turn that `is_queued` waits behind all others of its session until `start_queued_turn`; until then it has no
        credits reserved. At most `max_queued` turns of a session wait.

        The session switches to the turn's animal. The first turn of a session with a handle creates the `DeviceUser`.

        Returns the id of the turn, or that of the earlier turn that was stored with one of the keys; then nothing is
        changed. Raises `KeyReused` when a key was used for a request with another body, `TurnRunning` when the session
        has a running or a queued turn, or for a queued one when too many wait, `SessionNotFound`, `SessionClaimed` when
        the claim does not fit, and `InsufficientCredits`.
        """

    async def start_queued_turn(self, turn_id: str, at: datetime, charge: Charge | None = None) -> str | None:
        """Let the queued turn run, and reserve its credits, unless an earlier turn of its session has not ended.

        Returns None when it runs now, else the id of the turn that it waits for. Raises `TurnNotFound` when there is no
        such queued turn any more, and `InsufficientCredits`; then nothing is changed.
        """

    async def has_turn(self, keys: Sequence[IdempotencyKey]) -> bool:
        """Whether `begin_turn` would find an earlier turn by one of the keys, or refuse the keys."""

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> Outcome | None:
        """Store the outcome, charge for the credits used and release the rest of the reservation.

        The idempotency keys of a queued turn that failed stand for it no longer.

        Returns the outcome as it is stored: it costs no more than was reserved. None, and nothing changed, when the
        turn has an outcome already. None also when it was deleted; if it ran then, the credits are charged.
        """

    async def get_turn(self, turn_id: str) -> TurnRecord | None: ...

    async def get_turn_ownership(self, turn_id: str) -> TurnOwnership | None:
        """Whose turn it is. It takes the same time whether there is such a turn or not."""

    async def list_turns(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        """The session's turns, oldest first."""

    async def list_latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        """The session's last `limit` turns, oldest first."""

    async def list_owner_turns(self, owner: str | None, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        """The turns of all sessions of the owner, latest first; of all owners when `owner` is None."""

    async def set_session_ttl(self, session_id: str, ttl_s: int) -> SessionRecord | None:
        """Let the session expire `ttl_s` seconds after its last message; None when there is no such session."""

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        """Delete the session, its turns and its device user. The ids of the turns; None when there was no session.

        What a running turn with a valid lease has reserved stays until `settle_turn`.
        """

    async def list_running_turns(self) -> Sequence[Lease]:
        """The leases of all turns without an outcome, and of those that were deleted and have yet to be charged."""

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> Sequence[str]:
        """Renew the leases of those that have no outcome yet, and return their ids."""

    async def count_expired_sessions(self) -> int:
        """How many expired sessions are not deleted yet."""

    async def delete_expired_sessions(self, limit: int) -> int:
        """Delete at most `limit` expired sessions with their turns; how many were deleted. When none is left, the users
        of devices whose sessions are gone are deleted too.

        A session with a running turn whose lease is valid is left for later.
        """

    async def delete_old_turns(self, limit: int) -> int:
        """Delete at most `limit` turns that are older than the retention time; how many were deleted.

        When none is left, titles and openings of that age are deleted too. The sessions stay.
        """

    async def vacuum(self, at_most_bytes: int | None = None) -> bool:
        """Rewrite the store's files so that no copy of deleted data stays in them.

        False when it has to be tried again later: there are readers at the moment, or the store is larger than
        `at_most_bytes` and would be locked for too long.
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

    async def refresh_login(
        self, token_hashes: Sequence[str], expires_at: datetime, repeatable_since: datetime
    ) -> tuple[Login, int] | None:
        """Replace a refresh token and extend the login. None when the token is not valid (any more).

        `token_hashes` are the token that was sent and its successors, in order. A token that is not used yet is
        replaced by the next one. One that was used after `repeatable_since` changes nothing: two tabs of a browser
        refresh at the same time, and answers are lost. The number in the result says which token of the list is valid
        now. A token that was used before ends the login: two parties hold it, so one of them has stolen it (RFC 9700,
        section 4.14.2).
        """

    async def end_login(self, login_id: str) -> bool:
        """False when there is no such login (any more)."""

    async def end_login_of_token(self, token_hash: str) -> bool:
        """End the login of a refresh token, whether that is used or not. False when there is no such login."""

    async def get_authenticated_user(self, username: str, login_id: str) -> AuthenticatedUser | None:
        """The user of an active login, with the role and the children that they have now."""


class CreditStore(Protocol):
    """What users may spend. Every method is one atomic step; errors are `StoreUnavailable`.

    `Store.begin_turn` reserves credits and `Store.settle_turn` refunds what was not used. A user's entries add up to
    the balance, once expired credits are counted as lost; no balance is below zero.
    """

    async def allocate_credits(self, allocation: Allocation, key: IdempotencyKey | None = None) -> CreditEntry:
        """With a key that an earlier allocation had and that is still valid, that one's entry, and nothing is changed.

        Raises `UserNotFound`.
        """

    async def get_balance(self, username: str) -> Balance | None:
        """None when there is no such user."""

    async def list_entries(self, username: str, limit: int, cursor: str | None = None) -> Page[CreditEntry]:
        """All changes of the balance, latest first."""

    async def list_daily_usage(self, username: str, first: date, last: date) -> Sequence[DailyUsage]:
        """The days from `first` to `last`, both included, on which turns were charged, earliest first."""


class RequestStore(Protocol):
    """Requests with idempotency keys, and their answers. Every method is one atomic step; errors are
    `StoreUnavailable`.
    """

    async def begin(self, key: IdempotencyKey, owner: str) -> StoredAnswer | None:
        """The answer to an earlier request with the key; None when there was none, and the caller carries it out now.

        Raises `KeyReused` when the earlier request was another one, and `RequestRunning` while it has no answer. A
        request whose process has died is begun anew.
        """

    async def finish(self, key: IdempotencyKey, answer: StoredAnswer) -> None: ...

    async def release(self, key: IdempotencyKey) -> None:
        """The request failed: it may be sent again."""


class DocumentStore(Protocol):
    """Versioned documents of one kind: animals, or rules. Every method is one atomic step; errors are
    `StoreUnavailable`.

    Each change is an entry of the document's history, and its number is the document's version from then on.
    """

    async def seed(self, documents: Mapping[str, Document], by: str, at: datetime) -> bool:
        """Store them all, by their ids; False, and nothing changed, when there is a document already."""

    async def list_changes(self, since: int) -> DocumentChanges:
        """What has changed after that version; since 0 it is everything. Cheap when nothing has."""

    async def get_document(self, document_id: str) -> VersionedDocument | None: ...

    async def put_document(self, change: Change, version: int | None, document: Document) -> VersionedDocument | None:
        """Replace the document at that version, or create it where there is none (None).

        None, and nothing changed, when it is at another version, or not there, or there already.
        """

    async def delete_document(self, change: Change, version: int) -> bool:
        """Its draft is deleted with it, its history stays. False when the document is not at that version."""

    async def list_history(self, document_id: str, limit: int, cursor: str | None = None) -> Page[Change]:
        """Latest change first; also of a document that was deleted. Not every kind has the changed fields in it."""


class DraftStore(DocumentStore, Protocol):
    """A document store that also has a draft beside a document, one at most."""

    async def get_draft(self, document_id: str) -> Draft | None: ...

    async def put_draft(self, draft: Draft) -> bool:
        """Store it in place of the same keeper's earlier one. False, and nothing changed, when there is no such
        document, or when another keeper has a draft of it."""

    async def delete_draft(self, document_id: str) -> bool:
        """False when there was none."""

    async def promote_draft(self, change: Change, version: int, draft: Draft) -> VersionedDocument | None:
        """Replace the document by its draft, and delete the draft.

        None, and nothing changed, when the document is not at that version, or the draft not this one, any more.
        """


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
