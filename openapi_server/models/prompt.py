"""The prompt: everything a model provider may answer from."""

from __future__ import annotations

from dataclasses import dataclass

from openapi_server.models.animal import Animal, Fact
from openapi_server.models.turn import AgeGroup


@dataclass(frozen=True, slots=True)
class Exchange:
    """One earlier turn of the same session: what was asked, what was said, from which facts."""

    message: str
    reply: str
    fact_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a provider may speak from. `history` is oldest first; `facts` best first, possibly empty.

    `media_urls` is for minds that can see and hear; nobody else ever opens them. `rules` are sentences that hold for
    this animal and this age, beside those that hold for all. `canary` is a word that stands in the mind's instructions
    and must not come out again. `is_read_whole`: nobody watches the words come, so there is no need to speak at a
    reader's pace.
    """

    animal: Animal
    age_group: AgeGroup
    message: str
    history: tuple[Exchange, ...] = ()
    facts: tuple[Fact, ...] = ()
    context_summary: str | None = None
    media_urls: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    canary: str = ""
    is_delivered_whole: bool = False
