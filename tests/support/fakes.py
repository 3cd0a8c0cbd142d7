"""Fakes of the protocols: small classes, named for what they do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from argon2 import PasswordHasher

from openapi_server.models.animal import Animal, Fact, Individual, Voice
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup, Moderation, Source, Usage
from openapi_server.protocols import Model, ProviderState, ReplyEnd, Store, Verdict, WholeReply

# Real argon2id, a thousand times cheaper than a password deserves.
CHEAP_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class FakeClock:
    """A clock that moves only when it is advanced."""

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


class SingleModelProvider:
    """The part that all fake providers share: one model for all animals."""

    model = ""
    state = ProviderState()

    def get_state(self) -> ProviderState:
        return self.state

    def list_models(self) -> Sequence[Model]:
        return (Model(self.model, self.model, "The only model of this server."),)

    def get_model(self, animal: Animal) -> Model:
        return self.list_models()[0]


class Says(SingleModelProvider):
    """A provider that streams the given pieces. `prompts` are those it got."""

    model = "fake-1"

    def __init__(self, *pieces: str, reply_end: ReplyEnd | None = None) -> None:
        self.pieces = pieces or ("Roar! ", "I am ", "a lion.")
        self.reply_end = reply_end or ReplyEnd(usage=Usage(3, len(self.pieces)))
        self.prompts: list[Prompt] = []

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        self.prompts.append(prompt)
        # With the whole reply known, no piece is buffered until the end of its sentence.
        yield WholeReply("".join(self.pieces))
        for piece in self.pieces:
            yield piece
        yield self.reply_end


class Fails(SingleModelProvider):
    """A provider that streams some pieces and then raises the error."""

    model = "fake-1"

    def __init__(self, error: Exception, *before: str) -> None:
        self.error = error
        self.before = before

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("".join(self.before))
        for piece in self.before:
            yield piece
        raise self.error


class Waits(SingleModelProvider):
    """A provider that streams one piece, waits for `go`, and streams the rest. `was_closed`: it has ended."""

    model = "fake-1"

    def __init__(self, *after: str) -> None:
        self.after = after or ("go.",)
        self.go = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.was_closed = False
        self.prompts: list[Prompt] = []

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        self.prompts.append(prompt)
        try:
            yield WholeReply("".join(("Ready, ", *self.after)))
            yield "Ready, "
            self.has_begun.set()
            await self.go.wait()
            for piece in self.after:
                yield piece
            yield ReplyEnd()
        finally:
            self.was_closed = True


class Answers(SingleModelProvider):
    """A provider that begins each reply at once with "To ", and ends it with the message when it may.

    `begun` are the messages whose replies have begun, in order; `histories` what was said before each.
    """

    model = "fake-1"

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.histories: dict[str, list[tuple[str, str]]] = {}
        self.has_begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._may_finish: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def finish(self, *messages: str) -> None:
        """Let the replies to these messages end, now or when they have begun."""
        for message in messages:
            self._may_finish[message].set()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        self.begun.append(prompt.message)
        self.histories[prompt.message] = [(exchange.message, exchange.reply) for exchange in prompt.history]
        yield WholeReply(f"To {prompt.message}")
        yield "To "
        self.has_begun[prompt.message].set()
        await self._may_finish[prompt.message].wait()
        yield prompt.message
        yield ReplyEnd()


def make_fact(name: str = "mane", *, level: AgeGroup = AgeGroup.ELEMENTARY) -> Fact:
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


def make_lion(animal_id: str = "lion_001", name: str = "Leo", *, status: str = "active") -> Animal:
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
        facts=(make_fact(),),
    )


class FakeKnowledge:
    """Knowledge of a few animals, which finds all facts of an animal for every question."""

    def __init__(self, *animals: Animal) -> None:
        self._animals = {
            animal.animal_id: animal for animal in animals or (make_lion(), make_lion("tiger_001", "Bulan"))
        }

    def list_animals(self) -> Sequence[Animal]:
        return tuple(self._animals.values())

    def get_animal(self, animal_id: str) -> Animal | None:
        return self._animals.get(animal_id)

    async def refresh(self) -> None:
        """The animals never change."""

    def find_requested_animal(self, message: str) -> Animal | None:
        """The animal that is named by the first part of its id: "the tiger" is `tiger_001`."""
        kinds = {animal.animal_id.partition("_")[0]: animal for animal in self._animals.values()}
        return next((animal for kind, animal in kinds.items() if f"the {kind}" in message.lower()), None)

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        return animal.facts

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        return facts


class UnreliableStore:
    """A store whose methods all raise `StoreUnavailable` while `is_away` is set."""

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


class FakeModerator:
    """A moderator that masks nothing and gives no guidance. It checks earlier messages like new ones."""

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        return Verdict()

    async def check_earlier_message(
        self, message: str, animal: Animal, age_group: AgeGroup, original: str = ""
    ) -> Verdict:
        return await self.check_message(message, animal, age_group)

    def mask_pii(self, text: str) -> str:
        return text

    async def list_guidance(
        self, animal: Animal, age_group: AgeGroup, message: str = "", original: str = ""
    ) -> tuple[str, ...]:
        return ()


class AllowsAll(FakeModerator):
    """A moderator that allows every message."""


class Crashes(FakeModerator):
    """A moderator with a bug: no message can be checked."""

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        raise RuntimeError("no rules")


class Blocks(FakeModerator):
    """A moderator that blocks every message."""

    def __init__(self, words: str = "Let us talk about something else.") -> None:
        self.words = words

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        return Verdict(Moderation(flagged=True, categories=("danger",)), self.words)
