"""The request for a turn, in the same form for every API contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from openapi_server.models.animal import Animal, Fact
from openapi_server.models.credits import Charge
from openapi_server.models.errors import ChatError
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.session import SessionClaim
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.pii import mask_json


class OnBusy(StrEnum):
    """What happens to a message while an earlier turn of its session has not ended.

    `REJECT`: it is refused. `ENQUEUE`: it waits for the earlier ones. `INTERRUPT`: the running turn is stopped, which
    keeps what was said, and the message waits for what is left. `INTERRUPT_UNREAD` is no choice of a client: interrupt
    if nobody reads the running turn any more, else enqueue.
    """

    REJECT = "reject"
    ENQUEUE = "enqueue"
    INTERRUPT = "interrupt"
    INTERRUPT_UNREAD = "interrupt_unread"


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The session that a turn belongs to, and its owner. `session_id` None starts a new session.

    `is_client_chosen`: the client makes up its session ids, so an unknown id starts a session instead of being an
    error; `name_key` stands for the client's name, and `name` is that name itself where answers use it. `is_proved` is
    False when only that name was shown, and no cookie, login or token. `handle` is `chat_<device>` for a device, whose
    session may switch to another animal.
    """

    session_id: str | None = None
    owner: str | None = None
    is_client_chosen: bool = False
    handle: str | None = None
    name_key: str | None = None
    name: str | None = None
    is_proved: bool = True

    @property
    def claim(self) -> SessionClaim | None:
        """What the store checks in the transaction that starts a turn; None where the session's id was checked."""
        return SessionClaim(self.owner, self.is_proved) if self.is_client_chosen else None


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """Everything that starts a turn: the animal, the message, the session, and how to answer.

    The conversation so far is `opening`, then `client_history` where the client sends one, else the stored turns of
    the session, or of the session `recall_from_session_id`.

    `contract` is the name of the API contract, for metrics and traces.
    `is_storage_optional`: while the store is unavailable, the turn runs all the same, with no memory and no record.
    `is_delivered_whole`: the reply is not streamed. `is_cancelled_on_disconnect`: the turn is stopped as soon as its
    last reader leaves. `is_bound`: the turn needs its caller, whatever `SESSION_BINDING` says. `charge`: who pays for
    the turn in a session that costs nothing by itself. `simulated_error`: the turn fails with it after the retrieval.
    `unmasked`: the request as it came, for the moderation rules alone; never stored, logged or sent to a provider.
    """

    animal: Animal
    message: str
    age_group: AgeGroup = AgeGroup.ELEMENTARY
    session: SessionRef = SessionRef()
    client_history: tuple[Exchange, ...] | None = None
    recall_from_session_id: str | None = None
    opening: str | None = None
    context_summary: str | None = None
    media_urls: tuple[str, ...] = ()
    metadata: str | None = None
    charge: Charge | None = None
    is_cancelled_on_disconnect: bool = False
    is_delivered_whole: bool = False
    may_retrieve_facts: bool = True
    is_storage_optional: bool = False
    is_bound: bool = False
    on_busy: OnBusy = OnBusy.REJECT
    simulated_error: ChatError | None = None
    contract: str = ""
    unmasked: TurnRequest | None = field(default=None, repr=False, compare=False)

    @property
    def recalled_session_id(self) -> str | None:
        """The session whose stored turns are the conversation so far; None for a new session."""
        return self.recall_from_session_id or self.session.session_id

    @property
    def size(self) -> int:
        """The number of characters of all texts that come from the visitor or the client."""
        texts = [self.message, self.opening, self.context_summary, self.metadata]
        texts += [text for exchange in self.client_history or () for text in (exchange.message, exchange.reply)]
        return sum(len(text) for text in texts if text)

    def clean_text(self, mask: Callable[[str], str]) -> TurnRequest:
        """The same request, with `mask` applied to every text that comes from the visitor or the client.

        The blanks around the message are left out, which its limit does not count.
        """
        message = mask(self.message.strip())
        if message == self.message and not (
            self.client_history or self.opening or self.context_summary or self.metadata
        ):
            return self
        client_history = self.client_history and tuple(
            replace(exchange, message=mask(exchange.message), reply=mask(exchange.reply))
            for exchange in self.client_history
        )
        return replace(
            self,
            unmasked=self.unmasked or self,
            message=message,
            client_history=client_history,
            opening=self.opening and mask(self.opening),
            context_summary=self.context_summary and mask(self.context_summary),
            metadata=self.metadata and mask_json(self.metadata, mask),
        )

    def build_prompt(
        self, history: tuple[Exchange, ...], facts: Sequence[Fact], rules: tuple[str, ...] = (), canary: str = ""
    ) -> Prompt:
        """The provider's input for this request."""
        return Prompt(
            animal=self.animal,
            age_group=self.age_group,
            message=self.message,
            history=history,
            facts=tuple(facts),
            context_summary=self.context_summary,
            media_urls=self.media_urls,
            rules=rules,
            canary=canary,
            is_delivered_whole=self.is_delivered_whole,
        )
