"""What the animal knows of the talk so far: from the store, from the client, or from nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openapi_server.engine.turn_request import Place, Question
from openapi_server.models.animal import Animal, Exchange
from openapi_server.models.session import Outcome, SessionRecord, TurnRecord
from openapi_server.models.turn import AgeGroup, FinishReason, Moderation, Source, Stage, StageChanged, TurnStatus
from openapi_server.protocols import Verdict
from tests.engine.support import Bench, hello
from tests.fakes import Says, Unmoved, a_lion

MANE = Source("lion_001/mane", "body", "document", "Keepers' notebook")
STRIPES = Source("tiger_001/stripes", "body", "document", "Keepers' notebook")


class Dislikes(Unmoved):
    """A moderator that stops every message with the word in it."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return Verdict(Moderation(True, ("danger",)), "Better not.") if self.word in message else Verdict()


def remember(bench: Bench, *turns: TurnRecord, session_id: str = "sess_1", handle: str | None = None) -> None:
    """Put a session with these turns into the store."""
    now = bench.clock.now()
    bench.store.sessions[session_id] = SessionRecord(session_id, "lion_001", None, now, now, handle=handle)
    for place, turn in enumerate(turns):
        name = f"turn_{session_id}_{place}"
        bench.store.turns[name] = replace(turn, turn_id=name, session_id=session_id, created_at=now)
        if turn.outcome is not None:
            bench.store.outcomes[name] = [replace(turn.outcome, ended_at=now)]


def told_to(animal_id: str, message: str, reply: str, *sources: Source) -> TurnRecord:
    now = Bench(Says()).clock.now()
    outcome = Outcome(TurnStatus.SUCCEEDED, now, reply, FinishReason.STOP, sources)
    return TurnRecord("", "", animal_id, AgeGroup.ELEMENTARY, message, "m", now, outcome=outcome)


async def history_of(bench: Bench, question: Question) -> tuple[Exchange, ...]:
    """What the provider was told of the past."""
    provider = bench.provider
    assert isinstance(provider, Says)
    started = await bench.engine.start(question)
    await bench.drain(started.turn_id)
    return provider.prompts[-1].history


async def test_the_animal_remembers_its_session() -> None:
    """What was asked and said and from which facts, oldest first; the question itself is not a memory."""
    bench = Bench(Says())
    remember(bench, told_to("lion_001", "Mane?", "I have one!", MANE), told_to("lion_001", "Yes?", "Yes."))

    assert await history_of(bench, hello("sess_1")) == (
        Exchange("Mane?", "I have one!", ("lion_001/mane",)),
        Exchange("Yes?", "Yes."),
    )


async def test_what_another_animal_told_comes_without_its_facts() -> None:
    """The words belong to the talk; the facts were the other one's, and this one cannot refer to them."""
    bench = Bench(Says())
    remember(
        bench,
        told_to("tiger_001", "My name is John.", "Hello John!", STRIPES),
        told_to("lion_001", "Mane?", "Yes!", MANE),
        handle="chat_kiosk-7",
    )

    question = Question(a_lion(), "Hello!", place=Place("sess_1", handle="chat_kiosk-7"))
    assert await history_of(bench, question) == (
        Exchange("My name is John.", "Hello John!"),
        Exchange("Mane?", "Yes!", ("lion_001/mane",)),
    )


@pytest.mark.parametrize("told", [(), (Exchange("I am Ben.", "Hello Ben!"), Exchange("Mane?", ""))])
async def test_what_the_client_tells_takes_the_place_of_memory(told: tuple[Exchange, ...]) -> None:
    """Also when it tells nothing: the client has said that it wants no memory."""
    bench = Bench(Says())
    remember(bench, told_to("lion_001", "Mane?", "I have one!", MANE))

    assert await history_of(bench, replace(hello("sess_1"), told=told)) == told


async def test_what_the_rules_would_stop_is_left_out_of_what_the_client_tells() -> None:
    """Nobody had checked it; a client must not bring in by the past what it may not say now."""
    bench = Bench(Says(), moderator=Dislikes("bomb"))
    told = (Exchange("I am Ben.", "Hello!"), Exchange("A bomb, please.", "Sure."), Exchange("Mane?", "Yes."))

    assert await history_of(bench, replace(hello(), told=told)) == (told[0], told[2])


async def test_of_a_long_tale_the_latest_is_heard() -> None:
    """As much as the animal would remember by itself."""
    bench = Bench(Says())
    told = tuple(Exchange(f"question {n}", f"answer {n}") for n in range(60))

    assert await history_of(bench, replace(hello(), told=told)) == told[10:]


async def test_the_animal_may_remember_another_session_than_the_one_it_talks_in() -> None:
    """A client without a session of its own continues an older one; the new turn is in the new session."""
    bench = Bench(Says())
    remember(bench, told_to("lion_001", "I am Ben.", "Hello Ben!"), session_id="sess_before")
    remember(bench, told_to("lion_001", "I am Mia.", "Hello Mia!"), session_id="sess_1")

    for place in (Place(), Place("sess_1")):
        question = Question(a_lion(), "Who am I?", place=place, remembers="sess_before")
        assert await history_of(bench, question) == (Exchange("I am Ben.", "Hello Ben!"),)
    asked_in = [turn.session_id for turn in bench.store.turns.values() if turn.message == "Who am I?"]
    assert len(asked_in) == 2
    assert "sess_before" not in asked_in


async def test_the_words_that_a_session_was_begun_with_come_before_everything() -> None:
    """They were said to nobody yet, so they have no answer; before the client's own tale, too."""
    bench = Bench(Says())
    remember(bench, told_to("lion_001", "Mane?", "Yes!"))
    opened = replace(hello("sess_1"), opening="My name is Ben.")
    told = (Exchange("I am small.", "I am not."),)

    assert await history_of(bench, opened) == (Exchange("My name is Ben.", ""), Exchange("Mane?", "Yes!"))
    assert await history_of(bench, replace(opened, told=told)) == (Exchange("My name is Ben.", ""), *told)


async def test_an_opening_that_the_rules_would_stop_is_not_heard() -> None:
    """It was never checked when the session was made."""
    bench = Bench(Says(), moderator=Dislikes("bomb"))

    assert await history_of(bench, replace(hello(), opening="A bomb, please.")) == ()


@pytest.mark.parametrize(("may_look_up", "found"), [(True, 1), (False, 0)])
async def test_an_animal_that_may_not_look_up_speaks_without_facts(may_look_up: bool, found: int) -> None:
    """The stages come all the same, with nothing found and no sources in the end."""
    provider = Says()
    bench = Bench(provider)

    started = await bench.engine.start(replace(hello(), may_look_up=may_look_up))
    entries = await bench.drain(started.turn_id)

    counts = [
        entry.event.found for entry in entries if isinstance(entry.event, StageChanged) and entry.event.is_complete
    ]
    assert counts == [None, found, found, None]
    assert [e.event.stage for e in entries if isinstance(e.event, StageChanged)][::2] == list(Stage)
    assert len(provider.prompts[0].facts) == found
    assert len(bench.store.outcomes[started.turn_id][0].sources) == found
