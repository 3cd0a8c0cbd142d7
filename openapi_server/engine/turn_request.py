"""The question: what the engine is asked, whichever contract it came by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from openapi_server.models.animal import Animal, Fact
from openapi_server.models.credits import Charge
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.pii.mask import mask_json


@dataclass(frozen=True, slots=True)
class SessionRef:
    """Where a question belongs: the session, and whose it is. `session_id` None begins a new session.

    `is_chosen`: the id is the client's own doing, and the session begins with the first question in it.
    `handle` is the device's name in our books; a device's session may change its animal.
    """

    session_id: str | None = None
    owner: str | None = None
    is_client_chosen: bool = False
    handle: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a visitor asks: who is asked, what, and where it belongs.

    `told` is what was said before as the client tells it, in place of what the store remembers of the session, or of
    `remembers`, another one; `opening` comes before all that. `may_go_unstored`: better an answer without memory than
    none.
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

    @property
    def recalled_session_id(self) -> str | None:
        return self.recall_from_session_id or self.session.session_id

    def mask_text(self, mask: Callable[[str], str]) -> TurnRequest:
        """The same question without what the mask takes out, wherever a visitor's or a client's words stand in it."""
        told = self.client_history and tuple(
            replace(one, message=mask(one.message), reply=mask(one.reply)) for one in self.client_history
        )
        return replace(
            self,
            message=mask(self.message),
            client_history=told,
            opening=self.opening and mask(self.opening),
            context_summary=self.context_summary and mask(self.context_summary),
            metadata=self.metadata and mask_json(self.metadata, mask),
        )

    def build_prompt(
        self, history: tuple[Exchange, ...], facts: Sequence[Fact], rules: tuple[str, ...] = (), canary: str = ""
    ) -> Prompt:
        """All that the animal may speak from."""
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
