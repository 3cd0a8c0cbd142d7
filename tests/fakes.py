"""Fakes that can be read: each is a small class named for what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from argon2 import PasswordHasher

from openapi_server.models.animal import Animal, Exchange, Fact, Individual, Prompt, Voice
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.turn import AgeGroup, Moderation, Source, Usage
from openapi_server.protocols import Composed, OneModel, Spoken, Store, Verdict

# Real argon2id, a thousand times cheaper than a password deserves.
CHEAP_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class FakeClock:
    """Stands still until it is advanced."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 21, 10, 30, 40, tzinfo=UTC)
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds


class Says(OneModel):
    """A provider that says the given pieces, and remembers what it was asked."""

    model = "fake-1"

    def __init__(self, *pieces: str, spoken: Spoken | None = None) -> None:
        self.pieces = pieces or ("Roar! ", "I am ", "a lion.")
        self.spoken = spoken or Spoken(usage=Usage(3, len(self.pieces)))
        self.prompts: list[Prompt] = []

    async def speak(self, prompt: Prompt) -> AsyncGenerator[str | Composed | Spoken, None]:
        self.prompts.append(prompt)
        # It knows what it will say, so nothing is held back for the end of a sentence.
        yield Composed("".join(self.pieces))
        for piece in self.pieces:
            yield piece
        yield self.spoken


class Fails(OneModel):
    """A provider that says some pieces and then breaks."""

    model = "fake-1"

    def __init__(self, error: Exception, *before: str) -> None:
        self.error = error
        self.before = before

    async def speak(self, prompt: Prompt) -> AsyncGenerator[str | Composed | Spoken, None]:
        yield Composed("".join(self.before))
        for piece in self.before:
            yield piece
        raise self.error


class Waits(OneModel):
    """A provider that says one piece, then waits for `go` before the rest; `was_closed` tells of a cancel."""

    model = "fake-1"

    def __init__(self, *after: str) -> None:
        self.after = after or ("go.",)
        self.go = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.was_closed = False
        self.prompts: list[Prompt] = []

    async def speak(self, prompt: Prompt) -> AsyncGenerator[str | Composed | Spoken, None]:
        self.prompts.append(prompt)
        try:
            yield Composed("".join(("Ready, ", *self.after)))
            yield "Ready, "
            self.has_begun.set()
            await self.go.wait()
            for piece in self.after:
                yield piece
            yield Spoken()
        finally:
            self.was_closed = True


def a_fact(name: str = "mane", *, level: AgeGroup = AgeGroup.ELEMENTARY) -> Fact:
    return Fact(
        fact_id=f"lion_001/{name}",
        animal_id="lion_001",
        topic="body",
        level=level,
        text=f"Lions have a {name}.",
        say=f"I have a {name}!",
        asks=(name,),
        source=Source(f"lion_001/{name}", "body", "document", "Keepers' notebook"),
    )


def a_lion(animal_id: str = "lion_001", name: str = "Leo", *, status: str = "active") -> Animal:
    line = ("Hello{name}!",)
    return Animal(
        animal_id=animal_id,
        name=name,
        species="African lion",
        scientific_name="Panthera leo",
        group="mammal",
        status=status,
        conservation_status="Vulnerable",
        conservation_code="VU",
        summary="A lion.",
        individual=Individual("male", date(2016, 6, 14), "this zoo", "the hill", ("proud",), {}, ("I sleep.",)),
        voice=Voice("Roar!", line, line, line, line, line, line, line, line),
        facts=(a_fact(),),
    )


class TinyZoo:
    """Knowledge of a few animals, all of whose facts answer everything."""

    def __init__(self, *animals: Animal) -> None:
        self._animals = {animal.animal_id: animal for animal in animals or (a_lion(), a_lion("tiger_001", "Bulan"))}

    def animals(self) -> Sequence[Animal]:
        return tuple(self._animals.values())

    def animal(self, animal_id: str) -> Animal | None:
        return self._animals.get(animal_id)

    async def refresh(self) -> None:
        """Nobody changes these."""

    def wished(self, message: str) -> Animal | None:
        """An animal whose id begins with the word: "the tiger" is tiger_001, and no question of grammar."""
        kinds = {animal.animal_id.partition("_")[0]: animal for animal in self._animals.values()}
        return next((animal for kind, animal in kinds.items() if f"the {kind}" in message.lower()), None)

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        return animal.facts

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        return facts


class MayBeAway:
    """A store that can be told to be away: then every method raises `StoreUnavailable`, as a real one's do."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_away = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def unless_away(*args: Any, **kwargs: Any) -> Any:
            if self.is_away and name != "close":
                raise StoreUnavailable(retry_after_s=2)
            return await method(*args, **kwargs)

        return unless_away


class Unmoved:
    """A moderator that masks nothing, has no advice, and checks everything alike."""

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return Verdict()

    async def check_earlier(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self.check(message, animal, age_group)

    def masked(self, text: str) -> str:
        return text

    async def guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        return ()


class Lenient(Unmoved):
    """A moderator that lets everything pass."""


class Blocks(Unmoved):
    """A moderator that lets nothing pass."""

    def __init__(self, words: str = "Let us talk about something else.") -> None:
        self.words = words

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return Verdict(Moderation(flagged=True, categories=("danger",)), self.words)
