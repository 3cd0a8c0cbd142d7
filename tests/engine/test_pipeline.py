"""The pipeline: the conversation so far, from the store or from the client, and the facts."""

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
from tests.support.rules import load_input_rules

MANE = Source("lion_001/mane", "body", "document", "Keepers' notebook")
STRIPES = Source("tiger_001/stripes", "body", "document", "Keepers' notebook")


class BlocksWord(FakeModerator):
    """A moderator that blocks every message with the word in it."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        return Verdict(Moderation(True, ("danger",)), "Better not.") if self.word in message else Verdict()


def store_turns(bench: EngineBench, *turns: TurnRecord, session_id: str = "sess_1", handle: str | None = None) -> None:
    """Store a session with these turns."""
    now = bench.clock.now()
    bench.store.sessions[session_id] = SessionRecord(session_id, "lion_001", None, now, now, handle=handle)
    for ref, turn in enumerate(turns):
        name = f"turn_{session_id}_{ref}"
        bench.store.turns[name] = replace(turn, turn_id=name, session_id=session_id, created_at=now)
        if turn.outcome is not None:
            bench.store.outcomes[name] = [replace(turn.outcome, ended_at=now)]


def make_turn(animal_id: str, message: str, reply: str, *sources: Source) -> TurnRecord:
    now = EngineBench(Says()).clock.now()
    outcome = Outcome(TurnStatus.SUCCEEDED, now, reply, FinishReason.STOP, sources)
    return TurnRecord("", "", animal_id, AgeGroup.ELEMENTARY, message, "m", now, outcome=outcome)


async def read_history(bench: EngineBench, request: TurnRequest) -> tuple[Exchange, ...]:
    """The history in the prompt that the provider gets."""
    provider = bench.provider
    assert isinstance(provider, Says)
    started = await bench.engine.start_turn(request)
    await bench.read_to_end(started.turn_id)
    return provider.prompts[-1].history


async def test_the_history_is_the_stored_turns_of_the_session() -> None:
    """Messages, replies and facts, oldest first, without the new message."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "Mane?", "I have one!", MANE), make_turn("lion_001", "Yes?", "Yes."))

    assert await read_history(bench, make_request("sess_1")) == (
        Exchange("Mane?", "I have one!", ("lion_001/mane",)),
        Exchange("Yes?", "Yes."),
    )


async def test_turns_with_another_animal_come_without_their_facts() -> None:
    """This animal cannot refer to the facts of another one."""
    bench = EngineBench(Says())
    store_turns(
        bench,
        make_turn("tiger_001", "My name is John.", "Hello John!", STRIPES),
        make_turn("lion_001", "Mane?", "Yes!", MANE),
        handle="chat_kiosk-7",
    )

    request = TurnRequest(make_lion(), "Hello!", session=SessionRef("sess_1", handle="chat_kiosk-7"))
    assert await read_history(bench, request) == (
        Exchange("My name is John.", "Hello John!"),
        Exchange("Mane?", "Yes!", ("lion_001/mane",)),
    )


@pytest.mark.parametrize("history", [(), (Exchange("I am Ben.", "Hello Ben!"), Exchange("Mane?", ""))])
async def test_the_history_of_the_client_replaces_the_stored_one(history: tuple[Exchange, ...]) -> None:
    """Also when it is empty: that client wants no history."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "Mane?", "I have one!", MANE))

    assert await read_history(bench, replace(make_request("sess_1"), client_history=history)) == history


async def test_blocked_messages_are_left_out_of_the_history_of_the_client() -> None:
    """A history must not bring in what a message may not say."""
    bench = EngineBench(Says(), moderator=BlocksWord("bomb"))
    history = (Exchange("I am Ben.", "Hello!"), Exchange("A bomb, please.", "Sure."), Exchange("Mane?", "Yes."))

    assert await read_history(bench, replace(make_request(), client_history=history)) == (history[0], history[2])


HIDDEN_CRY = "my address is I want to die"


async def test_what_a_mask_takes_is_moderated_and_not_stored() -> None:
    """The moderator gets the message as it was written; the store, the log and the provider get the masked one."""
    bench = EngineBench(Says(), moderator=load_input_rules())
    started = await bench.engine.start_turn(replace(make_request(), message=HIDDEN_CRY))
    entries = await bench.read_to_end(started.turn_id)

    turn = bench.store.turns[started.turn_id]
    [outcome] = bench.store.outcomes[started.turn_id]
    assert (turn.message, outcome.finish_reason) == ("my address is [address]", FinishReason.BLOCKED)
    assert outcome.moderation.categories == ("distress",)
    assert "want to die" not in repr((entries, bench.store.turns, bench.store.outcomes))


async def test_what_a_mask_takes_of_the_history_of_the_client_is_moderated() -> None:
    bench = EngineBench(Says(), moderator=load_input_rules())
    history = (Exchange("my address is 12 Oak Street", "Hello!"), Exchange(HIDDEN_CRY, "Oh."))
    request = replace(make_request(), client_history=history, opening=HIDDEN_CRY)

    assert await read_history(bench, request) == (Exchange("my address is [address]", "Hello!"),)


async def test_of_a_long_history_the_latest_exchanges_are_used() -> None:
    """As many as of the stored turns."""
    bench = EngineBench(Says())
    history = tuple(Exchange(f"question {n}", f"answer {n}") for n in range(60))

    assert await read_history(bench, replace(make_request(), client_history=history)) == history[10:]


async def test_the_history_may_come_from_another_session() -> None:
    """A client continues an older session in a new one, which gets the new turn."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "I am Ben.", "Hello Ben!"), session_id="sess_before")
    store_turns(bench, make_turn("lion_001", "I am Mia.", "Hello Mia!"), session_id="sess_1")

    for ref in (SessionRef(), SessionRef("sess_1")):
        request = TurnRequest(make_lion(), "Who am I?", session=ref, recall_from_session_id="sess_before")
        assert await read_history(bench, request) == (Exchange("I am Ben.", "Hello Ben!"),)
    session_ids = [turn.session_id for turn in bench.store.turns.values() if turn.message == "Who am I?"]
    assert len(session_ids) == 2
    assert "sess_before" not in session_ids


async def test_the_opening_of_a_session_comes_first() -> None:
    """It has no reply. It comes before the history of the client, too."""
    bench = EngineBench(Says())
    store_turns(bench, make_turn("lion_001", "Mane?", "Yes!"))
    opened = replace(make_request("sess_1"), opening="My name is Ben.")
    history = (Exchange("I am small.", "I am not."),)

    assert await read_history(bench, opened) == (Exchange("My name is Ben.", ""), Exchange("Mane?", "Yes!"))
    assert await read_history(bench, replace(opened, client_history=history)) == (
        Exchange("My name is Ben.", ""),
        *history,
    )


async def test_a_blocked_opening_is_left_out() -> None:
    """It was not checked when the session was created."""
    bench = EngineBench(Says(), moderator=BlocksWord("bomb"))

    assert await read_history(bench, replace(make_request(), opening="A bomb, please.")) == ()


@pytest.mark.parametrize(("may_retrieve", "found"), [(True, 1), (False, 0)])
async def test_a_request_without_retrieval_has_no_facts(may_retrieve: bool, found: int) -> None:
    """All stages are reported, with no facts found and no sources."""
    provider = Says()
    bench = EngineBench(provider)

    started = await bench.engine.start_turn(replace(make_request(), may_retrieve_facts=may_retrieve))
    entries = await bench.read_to_end(started.turn_id)

    counts = [
        entry.event.found for entry in entries if isinstance(entry.event, StageChanged) and entry.event.is_complete
    ]
    assert counts == [None, found, found, None]
    assert [e.event.stage for e in entries if isinstance(e.event, StageChanged)][::2] == list(Stage)
    assert len(provider.prompts[0].facts) == found
    assert len(bench.store.outcomes[started.turn_id][0].sources) == found
