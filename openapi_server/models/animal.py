"""Animals: the individual, how it talks, what the keepers know about it, and the prompt it speaks from.

Values only; where they are read from is `knowledge/`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from openapi_server.models.turn import AgeGroup, Source


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that keepers know, in the wordings in which it may be told.

    `text` is neutral, third person, for search and for language models. `say` is the animal's own, for a child
    of 7 to 10; `little` the same for 3 to 5 (facts of level preschool have one); `detail` adds a sentence or two
    from 11 up; `why` answers the question "why?" after it. `level` is the youngest band that it suits.
    """

    fact_id: str
    animal_id: str
    topic: str
    level: AgeGroup
    text: str
    say: str
    asks: tuple[str, ...]
    source: Source
    little: str | None = None
    detail: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Individual:
    """The one animal that lives in this zoo."""

    sex: str
    born: date
    birthplace: str
    home: str
    character: tuple[str, ...]
    favourites: Mapping[str, str]
    anecdotes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Voice:
    """How this animal talks. `{name}` in a line becomes ", Mia" for a known visitor, else nothing."""

    sound: str
    greetings: tuple[str, ...]
    goodbyes: tuple[str, ...]
    thanks: tuple[str, ...]
    how_are_you: tuple[str, ...]
    dont_know: tuple[str, ...]
    jokes: tuple[str, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Where an animal's language model differs from the settings; None: it does not."""

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Animal:
    """One animal of the zoo, with everything that its keepers wrote down.

    `prompt_additions` are sentences for its language model alone. `version` is that of the document that it was read
    from, 0 for one that no store keeps.
    """

    animal_id: str
    name: str
    species: str
    scientific_name: str
    group: str
    status: str
    conservation_status: str
    conservation_code: str
    summary: str
    individual: Individual
    voice: Voice
    facts: tuple[Fact, ...]
    model_settings: ModelSettings = ModelSettings()
    prompt_additions: tuple[str, ...] = ()
    version: int = 0

    @property
    def disclosure(self) -> str:
        """One sentence that says what is speaking: children are told in the first event of every turn."""
        return f"You are chatting with a computer program that speaks for {self.name}, not with a real animal."
