"""An animal: the individual, how it talks, and the facts that keepers wrote about it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from openapi_server.models.turn import AgeGroup, Source

NICKNAMES: Mapping[str, tuple[str, ...]] = {
    "alligator": ("gator",),
    "chimpanzee": ("chimp",),
    "cougar": ("puma", "mountain lion", "catamount"),
    "crocodile": ("croc",),
    "hippopotamus": ("hippo", "hippopotami"),
    "mouse": ("mice",),
    "octopus": ("octopi",),
    "orangutan": ("orang utan",),
    "rhinoceros": ("rhino",),
    "seahorse": ("sea horse",),
    "tortoise": ("turtle",),
    "wolf": ("wolves",),
}
"""Common names that no animal's file holds, by the last word of the species. Also plurals that follow no rule."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that keepers know about an animal, worded for several ages.

    `text`: in the third person, for search and language models. `say`: what the animal says to a child of 7 to 10.
    `little`: the same for ages 3 to 5; facts of level preschool have one, others none. `detail`: a sentence or two
    more from age 11 up. `why`: the answer to a following "why?". `asks`: how visitors ask for it. `level`: the
    youngest age group that it suits.
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
    """The lines that the animal says. `{name}` in a line becomes ", Mia" when the visitor's name is known."""

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
    """An animal's own settings of its language model (`mind` in its document); None: the server's hold."""

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Animal:
    """One animal of the zoo, as its document describes it.

    `prompt_additions`: sentences for its language model alone. `version`: that of its document, 0 outside a store.
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
        """The sentence that says what is speaking; it stands in the first event of every turn."""
        return f"You are chatting with a computer program that speaks for {self.name}, not with a real animal."
