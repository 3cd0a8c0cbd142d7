"""What the animal keeps in mind of the talk so far, and how it varies what it says."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.offline.message import ParsedMessage, find_visitor_name, parse_message


@dataclass(frozen=True)
class Conversation:
    """One prompt, with what follows from its history. Every choice is drawn from one seeded source."""

    prompt: Prompt
    seed: int
    heard: ParsedMessage = field(init=False)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        draw = f"{self.seed}:{len(self.prompt.history)}:{self.prompt.message}"
        object.__setattr__(self, "chance", random.Random(draw))  # noqa: S311 - variety, not secrecy
        object.__setattr__(self, "heard", parse_message(self.prompt.message, list_own_names(self.animal)))

    @property
    def animal(self) -> Animal:
        return self.prompt.animal

    @property
    def history(self) -> Sequence[Exchange]:
        return self.prompt.history

    @property
    def last_reply(self) -> str:
        return self.history[-1].reply if self.history else ""

    @property
    def is_with_preschooler(self) -> bool:
        return self.prompt.age_group is AgeGroup.PRESCHOOL

    @property
    def is_with_older(self) -> bool:
        return self.prompt.age_group.rank >= AgeGroup.MIDDLE.rank

    @cached_property
    def visitor_name(self) -> str | None:
        """The visitor's name: the one just given, else the last one given before."""
        if self.heard.name:
            return self.heard.name
        given = (find_visitor_name(exchange.message) for exchange in reversed(self.history))
        return next((name for name in given if name), None)

    @cached_property
    def has_introduced_itself(self) -> bool:
        """True when a reply of this session said the animal's name. Another animal may have had the word before."""
        own = re.compile(rf"\b{re.escape(self.animal.name)}\b")
        return any(own.search(exchange.reply) for exchange in self.history)

    def insert_name(self, line: str) -> str:
        """A line of the keepers' with the visitor's name where it belongs, or without."""
        return line.replace("{name}", f", {self.visitor_name}" if self.visitor_name else "")

    def was_said(self, line: str, *, ever: bool = False) -> bool:
        """True when the last reply (or any) held this line, with whatever name was known then."""
        parts = line.split("{name}")
        replies = [exchange.reply for exchange in self.history] if ever else [self.last_reply]
        return any(all(part in reply for part in parts) for reply in replies)

    def pick_line(self, lines: Sequence[str], *, never_twice: bool = False) -> str:
        """One of the lines; not what was said in the last reply, nor (`never_twice`) in any while there is a choice."""
        unheard = [line for line in lines if not self.was_said(line, ever=True)] if never_twice else []
        fresh = unheard or [line for line in lines if not self.was_said(line)] or lines
        return self.insert_name(self.chance.choice(fresh))


def list_told_topics(talk: Conversation) -> frozenset[str]:
    """Topics of facts told before, and of those that are about to be."""
    told = {fact_id for exchange in talk.history for fact_id in exchange.fact_ids}
    told |= {fact.fact_id for fact in talk.prompt.facts}
    return frozenset(fact.topic for fact in talk.animal.facts if fact.fact_id in told)


def list_own_names(animal: Animal) -> frozenset[str]:
    kind = animal.species.split()[-1].lower()
    return frozenset({*animal.name.lower().split(), kind, _ALSO_CALLED.get(kind, kind)})


# What visitors say for what the keepers wrote.
_ALSO_CALLED = {"cougar": "puma", "crocodile": "croc", "tortoise": "turtle"}
