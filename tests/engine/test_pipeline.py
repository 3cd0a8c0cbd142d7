"""What the animal knows of the talk so far: from the store, from the client, or from nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Exchange
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import (
    AgeGroup,
    FinishReason,
    Moderation,
    Outcome,
    Source,
    Stage,
    TurnRecord,
    TurnStatus,
)
from openapi_server.models.turn_events import StageChanged
from openapi_server.protocols import Verdict
from tests.engine.bench import EngineBench, make_request
from tests.support.fakes import FakeModerator, Says, make_lion

MANE = Source("lion_001/mane", "body", "document", "Keepers' notebook")
STRIPES = Source("tiger_001/stripes", "body", "document", "Keepers' notebook")


class BlocksWord(FakeModerator):
    """A moderator that stops every message with the word in it."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return Verdict(Moderation(True, ("danger",)), "Better not.") if self.word in message else Verdict()


def store_turns(bench: EngineBench, *turns: TurnRecord, session_id: str = "sess_1", handle: str | None = None) -> None:
    """Put a session with these turns into the store."""
    now = bench.clock.now()
    bench.store.sessions[session_id] = SessionRecord(session_id, "lion_001", None, now, now, handle=handle)
    for place, turn in enumerate(turns):
        name = f"turn_{session_id}_{place}"
        bench.store.turns[name] = replace(turn, turn_id=name, session_id=session_id, created_at=now)
        if turn.outcome is not None:
            bench.store.outcomes[name] = [replace(turn.outcome, ended_at=now)]


def make_turn(animal_id: str, message: str, reply: str, *sources: Source) -> TurnRecord:
    now = EngineBench(Says()).clock.now()
    outcome = Outcome(TurnStatus.SUCCEEDED, now, reply, FinishReason.STOP, sources)
    return TurnRecord("", "", animal_id, AgeGroup.ELEMENTARY, message, "m", now, outcome=outcome)


async def read_history(bench: EngineBench, question: TurnRequest) -> tuple[Exchange, ...]:
    """What the provider was told of the past."""
    provider = bench.provider
    assert isinstance(provider, Says)
    started = await bench.engine.start_turn(question)
    await bench.read_to_end(started.turn_id)
    return provider.prompts[-1].history


async def test_the_animal_remembers_its_session() -> None:
    """What was asked and said and from which facts, oldest first; the question itself is not a memory."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "Mane?", "I have one!", MANE), make_turn("lion_001", "Yes?", "Yes."))

    assert await read_history(bench, make_request("sess_1")) == (
        Exchange("Mane?", "I have one!", ("lion_001/mane",)),
        Exchange("Yes?", "Yes."),
    )


async def test_what_another_animal_told_comes_without_its_facts() -> None:
    """The words belong to the talk; the facts were the other one's, and this one cannot refer to them."""
    bench = EngineBench(Says())
    store_turns(
        bench,
        make_turn("tiger_001", "My name is John.", "Hello John!", STRIPES),
        make_turn("lion_001", "Mane?", "Yes!", MANE),
        handle="chat_kiosk-7",
    )

    question = TurnRequest(make_lion(), "Hello!", session=SessionRef("sess_1", handle="chat_kiosk-7"))
    assert await read_history(bench, question) == (
        Exchange("My name is John.", "Hello John!"),
        Exchange("Mane?", "Yes!", ("lion_001/mane",)),
    )


@pytest.mark.parametrize("told", [(), (Exchange("I am Ben.", "Hello Ben!"), Exchange("Mane?", ""))])
async def test_what_the_client_tells_takes_the_place_of_memory(told: tuple[Exchange, ...]) -> None:
    """Also when it tells nothing: the client has said that it wants no memory."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "Mane?", "I have one!", MANE))

    assert await read_history(bench, replace(make_request("sess_1"), client_history=told)) == told


async def test_what_the_rules_would_stop_is_left_out_of_what_the_client_tells() -> None:
    """Nobody had checked it; a client must not bring in by the past what it may not say now."""
    bench = EngineBench(Says(), moderator=BlocksWord("bomb"))
    told = (Exchange("I am Ben.", "Hello!"), Exchange("A bomb, please.", "Sure."), Exchange("Mane?", "Yes."))

    assert await read_history(bench, replace(make_request(), client_history=told)) == (told[0], told[2])


async def test_of_a_long_tale_the_latest_is_heard() -> None:
    """As much as the animal would remember by itself."""
    bench = EngineBench(Says())
    told = tuple(Exchange(f"question {n}", f"answer {n}") for n in range(60))

    assert await read_history(bench, replace(make_request(), client_history=told)) == told[10:]


async def test_the_animal_may_remember_another_session_than_the_one_it_talks_in() -> None:
    """A client without a session of its own continues an older one; the new turn is in the new session."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "I am Ben.", "Hello Ben!"), session_id="sess_before")
    store_turns(bench, make_turn("lion_001", "I am Mia.", "Hello Mia!"), session_id="sess_1")

    for place in (SessionRef(), SessionRef("sess_1")):
        question = TurnRequest(make_lion(), "Who am I?", session=place, recall_from_session_id="sess_before")
        assert await read_history(bench, question) == (Exchange("I am Ben.", "Hello Ben!"),)
    asked_in = [turn.session_id for turn in bench.store.turns.values() if turn.message == "Who am I?"]
    assert len(asked_in) == 2
    assert "sess_before" not in asked_in


async def test_the_words_that_a_session_was_begun_with_come_before_everything() -> None:
    """They were said to nobody yet, so they have no answer; before the client's own tale, too."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "Mane?", "Yes!"))
    opened = replace(make_request("sess_1"), opening="My name is Ben.")
    told = (Exchange("I am small.", "I am not."),)

    assert await read_history(bench, opened) == (Exchange("My name is Ben.", ""), Exchange("Mane?", "Yes!"))
    assert await read_history(bench, replace(opened, client_history=told)) == (Exchange("My name is Ben.", ""), *told)


async def test_an_opening_that_the_rules_would_stop_is_not_heard() -> None:
    """It was never checked when the session was made."""
    bench = EngineBench(Says(), moderator=BlocksWord("bomb"))

    assert await read_history(bench, replace(make_request(), opening="A bomb, please.")) == ()


@pytest.mark.parametrize(("may_look_up", "found"), [(True, 1), (False, 0)])
async def test_an_animal_that_may_not_look_up_speaks_without_facts(may_look_up: bool, found: int) -> None:
    """The stages come all the same, with nothing found and no sources in the end."""
    provider = Says()
    bench = EngineBench(provider)

    started = await bench.engine.start_turn(replace(make_request(), may_retrieve_facts=may_look_up))
    entries = await bench.read_to_end(started.turn_id)

    counts = [
        entry.event.found for entry in entries if isinstance(entry.event, StageChanged) and entry.event.is_complete
    ]
    assert counts == [None, found, found, None]
    assert [e.event.stage for e in entries if isinstance(e.event, StageChanged)][::2] == list(Stage)
    assert len(provider.prompts[0].facts) == found
    assert len(bench.store.outcomes[started.turn_id][0].sources) == found
