"""The conversation so far: what the visitor has said of themselves, what was told, and lines not to repeat."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from openapi_server.models.animal import NICKNAMES, Animal
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.offline.message import ParsedMessage, find_visitor_name, parse_message


@dataclass(frozen=True)
class Conversation:
    """One prompt, and what follows from its history. All random choices come from one seeded generator, `rng`."""

    prompt: Prompt
    seed: int
    message: ParsedMessage = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        rng_seed = f"{self.seed}:{len(self.prompt.history)}:{self.prompt.message}"
        object.__setattr__(self, "rng", random.Random(rng_seed))  # noqa: S311 - variety, not secrecy
        object.__setattr__(self, "message", parse_message(self.prompt.message, list_own_names(self.animal)))

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
        if self.message.name:
            return self.message.name
        given = (find_visitor_name(exchange.message) for exchange in reversed(self.history))
        return next((name for name in given if name), None)

    @cached_property
    def has_introduced_itself(self) -> bool:
        """True when a reply of this session contains the animal's name. Earlier replies may be another animal's."""
        own = re.compile(rf"\b{re.escape(self.animal.name)}\b")
        return any(own.search(exchange.reply) for exchange in self.history)

    def insert_name(self, line: str) -> str:
        """The line with `{name}` replaced: by ", Mia", or by nothing while the name is not known."""
        return line.replace("{name}", f", {self.visitor_name}" if self.visitor_name else "")

    def was_said(self, line: str, *, ever: bool = False) -> bool:
        """True when the last reply (`ever`: any reply) contains this line, with or without a name in it."""
        parts = line.split("{name}")
        replies = [exchange.reply for exchange in self.history] if ever else [self.last_reply]
        return any(all(part in reply for part in parts) for reply in replies)

    def pick_line(self, lines: Sequence[str], *, never_twice: bool = False) -> str:
        """One of the lines at random, with the visitor's name: none of the last reply while there is another one.

        `never_twice`: none of any earlier reply while there is another one.
        """
        unsaid = [line for line in lines if not self.was_said(line, ever=True)] if never_twice else []
        fresh = unsaid or [line for line in lines if not self.was_said(line)] or lines
        return self.insert_name(self.rng.choice(fresh))


def list_told_topics(chat: Conversation) -> frozenset[str]:
    """The topics of the facts that earlier replies told, and of those in the prompt."""
    told = {fact_id for exchange in chat.history for fact_id in exchange.fact_ids}
    told |= {fact.fact_id for fact in chat.prompt.facts}
    return frozenset(fact.topic for fact in chat.animal.facts if fact.fact_id in told)


def list_own_names(animal: Animal) -> frozenset[str]:
    """The words that address this animal: its name, the last word of its species, and that word's nicknames."""
    kind = animal.species.split()[-1].lower()
    # Messages are compared word by word, so a nickname of two words would never be found.
    nicknames = (nickname for nickname in NICKNAMES.get(kind, ()) if " " not in nickname)
    return frozenset({*animal.name.lower().split(), kind, *nicknames})
