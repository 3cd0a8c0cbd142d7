"""The prompt: everything a model provider may answer from."""

from __future__ import annotations

from dataclasses import dataclass

from openapi_server.models.animal import Animal, Fact
from openapi_server.models.turn import AgeGroup


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier turn of the conversation. `fact_ids` are the facts that its reply was based on."""

    message: str
    reply: str
    fact_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The input of a model provider.

    `history` is oldest first; `facts` are best first and may be empty. `media_urls` are passed to models that accept
    images or sound; the server never fetches them. `rules` are instructions for this animal and this age group, in
    addition to the general ones. `canary` is a word in the instructions that must never appear in a reply (it shows
    that the instructions leak). `is_delivered_whole`: the reply need not be paced for reading, because it is
    not streamed, or comes late.
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
