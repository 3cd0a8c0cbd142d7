"""The search for facts: follow-ups, age groups, and work off the event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from openapi_server.knowledge.search import FactSearch, FoundFacts
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup
from openapi_server.protocols import Knowledge


@pytest.fixture(scope="module", params=["full text", "semantic"])
def service(request: pytest.FixtureRequest) -> KnowledgeService:
    """Follow-ups and age groups work the same with either search."""
    service: KnowledgeService = request.getfixturevalue(request.param.replace(" ", "_"))
    return service


@pytest.fixture
def lion(service: KnowledgeService) -> Animal:
    animal = service.get_animal("lion_001")
    assert animal is not None
    return animal


async def find_facts(
    service: Knowledge,
    animal: Animal,
    message: str,
    history: Sequence[Exchange] = (),
    age_group: AgeGroup = AgeGroup.ADULT,
) -> list[Fact]:
    facts = await service.retrieve(animal, message, history)
    return list(await service.rerank(facts, message, history, age_group))


async def tell_fact(service: Knowledge, animal: Animal, message: str, history: Sequence[Exchange] = ()) -> Exchange:
    """An exchange in which the best fact for the message was told."""
    facts = await find_facts(service, animal, message, history)
    return Exchange(message, facts[0].say, (facts[0].fact_id,))


def test_the_packaged_animals_are_there(service: KnowledgeService) -> None:
    """Every animal of the zoo is listed, in the order of the ids; an unknown id is None."""
    ids = [animal.animal_id for animal in service.list_animals()]

    assert ids == sorted(ids)
    assert "lion_001" in ids
    assert service.get_animal("unicorn_001") is None


async def test_why_returns_the_fact_just_told(service: KnowledgeService, lion: Animal) -> None:
    """ "Why?" is about the last reply, and the fact whose reason is known comes first."""
    before = await tell_fact(service, lion, "how fast are you")

    facts = await find_facts(service, lion, "but why??", [before])

    assert facts[0].fact_id == before.fact_ids[0]
    assert facts[0].why


@pytest.mark.parametrize("message", ["really?", "say that again", "what?", "is that true?"])
async def test_doubt_returns_the_same_fact(service: KnowledgeService, lion: Animal, message: str) -> None:
    """Asking again is answered from the same fact, not from a new one."""
    before = await tell_fact(service, lion, "how big are you")

    assert [fact.fact_id for fact in await find_facts(service, lion, message, [before])] == list(before.fact_ids)


@pytest.mark.parametrize("message", ["tell me more", "more please", "what else?", "go on"])
async def test_more_continues_with_new_facts(service: KnowledgeService, lion: Animal, message: str) -> None:
    """ "Tell me more" never repeats what was told, and starts with the same topic while it lasts."""
    history = [await tell_fact(service, lion, "what do you eat")]
    for _ in range(5):
        facts = await find_facts(service, lion, message, history)
        assert {fact.fact_id for fact in facts}.isdisjoint(i for e in history for i in e.fact_ids)
        if len(history) == 1:
            assert facts[0].topic == "diet"
        history.append(Exchange(message, facts[0].say, (facts[0].fact_id,)))


async def test_yes_accepts_what_the_animal_offered(service: KnowledgeService, lion: Animal) -> None:
    """ "Yes please" after an offer leads to what was offered."""
    before = Exchange("hi", "Roaaar! Shall I tell you about my mane?")

    facts = await find_facts(service, lion, "yes please", [before])

    assert "mane" in facts[0].text


async def test_a_change_of_subject_is_followed(service: KnowledgeService, lion: Animal) -> None:
    """ "What about your babies?" is about babies, whatever the conversation was about."""
    before = await tell_fact(service, lion, "how fast are you")

    assert (await find_facts(service, lion, "what about your babies?", [before]))[0].topic == "babies"


async def test_how_many_is_completed_by_the_conversation(service: KnowledgeService, lion: Animal) -> None:
    """A question that says nothing of its own is asked about the last subject; alone it finds nothing."""
    before = await tell_fact(service, lion, "do you have babies")

    assert (await find_facts(service, lion, "how many?", [before]))[0].topic == "babies"
    assert await find_facts(service, lion, "how many?") == []


@pytest.mark.parametrize("message", ["do you like Minecraft", "what is the capital of France"])
async def test_the_conversation_does_not_answer_for_unknown_words(
    service: KnowledgeService, lion: Animal, message: str
) -> None:
    """What was said before never turns an unanswerable question into an answer."""
    before = await tell_fact(service, lion, "how fast are you")

    assert await find_facts(service, lion, message, [before]) == []


async def test_a_self_contained_question_is_answered_alone(service: KnowledgeService, lion: Animal) -> None:
    """An unanswerable question before does not spoil the next one."""
    history = [Exchange("what is the capital of france", "Hm, I do not know."), Exchange("do you like fortnite", "Hm.")]

    assert (await find_facts(service, lion, "how fast are you", history))[0].topic == "speed"


async def test_a_switch_request_before_the_question_does_not_answer_it(service: KnowledgeService) -> None:
    """ "I want to talk to the giraffe. How tall is she?" tells her height, not how giraffes talk."""
    giraffe = service.get_animal("giraffe_001")
    assert giraffe is not None

    facts = await find_facts(service, giraffe, "I want to talk to the giraffe. How tall is she?")

    assert facts[0].fact_id == "giraffe_001/height"
    assert "giraffe_001/myth_silent" not in [fact.fact_id for fact in facts]


async def test_facts_that_were_just_told_come_later(service: KnowledgeService, lion: Animal) -> None:
    """Asked differently about the same topic, the other facts of it come first."""
    first = await tell_fact(service, lion, "tell me about your food")

    facts = await find_facts(service, lion, "what food do you eat", [first])

    assert facts[0].fact_id not in first.fact_ids


async def test_the_same_question_gets_the_same_answer(service: KnowledgeService, lion: Animal) -> None:
    """Repeating a question is asking again, not asking for something else."""
    first = await tell_fact(service, lion, "what do you eat")

    facts = await find_facts(service, lion, "What do you eat?", [first])

    assert facts[0].fact_id == first.fact_ids[0]


async def test_mating_is_not_told_below_its_age(service: KnowledgeService) -> None:
    """Facts about mating and death are never given to children younger than their level, in any animal."""
    for animal in service.list_animals():
        for message in ("how do you mate", "do you die", "what happens when you die", "how are babies made"):
            for age_group in AgeGroup:
                facts = await find_facts(service, animal, message, age_group=age_group)
                strict = [fact for fact in facts if fact.topic in ("mating", "death")]
                assert all(fact.level.rank <= age_group.rank for fact in strict)


async def test_preschoolers_get_facts_of_their_level_first(service: KnowledgeService, lion: Animal) -> None:
    """With equal relevance, a fact of the child's own level comes before one that is above it."""
    facts = await find_facts(service, lion, "what do you eat", age_group=AgeGroup.PRESCHOOL)

    assert facts[0].level is AgeGroup.PRESCHOOL


async def test_at_most_three_facts_are_selected(service: KnowledgeService, lion: Animal) -> None:
    """The animal speaks from few facts, however many are found."""
    for message in ("what do you eat", "surprise me", "tell me about your cubs and your pride and your mane"):
        assert 1 <= len(await find_facts(service, lion, message)) <= 3


async def test_searching_does_not_run_on_the_event_loop(lion: Animal) -> None:
    """SQLite runs on the service's own thread; closing the service ends it."""
    before = set(threading.enumerate())
    service = KnowledgeService.load()
    await service.retrieve(lion, "how fast are you", [])
    assert len(set(threading.enumerate()) - before) == 1

    service.close()

    assert set(threading.enumerate()) <= before


async def test_finding_facts_takes_milliseconds(service: KnowledgeService, lion: Animal) -> None:
    """A turn can afford retrieval: 20 ms of processor time is many times what it takes."""
    before = await tell_fact(service, lion, "how fast are you")
    started = time.process_time()
    for _ in range(50):
        await find_facts(service, lion, "and how big are your babies when they are born?", [before])

    assert (time.process_time() - started) / 50 < 0.020


async def test_ranking_what_a_search_found_searches_no_second_time(
    service: KnowledgeService, lion: Animal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores come with the facts; facts that come without, or for another message, are searched for again."""
    message = "How fast can you run?"
    # The first time its words are looked up.
    await service.retrieve(lion, message, ())
    searches: list[tuple[Any, ...]] = []
    search = FactSearch._find_facts

    def note_and_search(self: FactSearch, *args: Any) -> Any:
        searches.append(args)
        return search(self, *args)

    monkeypatch.setattr(FactSearch, "_find_facts", note_and_search)
    found = await service.retrieve(lion, message, ())
    ranked = await service.rerank(found, message, (), AgeGroup.ELEMENTARY)
    assert len(searches) == 1

    assert await service.rerank(list(found), message, (), AgeGroup.ELEMENTARY) == ranked
    assert len(searches) == 2
    await service.rerank(found, "Where do you sleep?", (), AgeGroup.ELEMENTARY)
    assert len(searches) == 3


async def test_a_question_with_kept_words_waits_for_no_thread(full_text: KnowledgeService) -> None:
    """Its facts are those that the worker finds, also after a reply; words of no keeper are always looked up there."""
    asked = [("lion_001", "How fast can you run?"), ("octopus_001", "Tell me about your arms"), ("lion_001", "why?")]
    for animal_id, message in asked:
        animal = full_text.get_animal(animal_id)
        assert animal is not None
        history = [await tell_fact(full_text, animal, "what do you eat")]
        found = full_text._search.retrieve(animal, message, history)

        kept = full_text._search.retrieve_kept(animal, message, history)

        assert isinstance(kept, FoundFacts)
        assert kept.scored == found.scored
        assert list(await full_text.retrieve(animal, message, history)) == list(found)
    lion = full_text.get_animal("lion_001")
    assert lion is not None
    for _ in range(2):
        assert full_text._search.retrieve_kept(lion, "I am Wilhelmine Krawuttke", []) == "I am Wilhelmine Krawuttke"
        await full_text.retrieve(lion, "I am Wilhelmine Krawuttke", [])
    words = {word for term in full_text._index_cache.get_index(lion)._kept_matches for word in term.words}
    assert "fast" in words
    assert words.isdisjoint({"wilhelmine", "krawuttke"})


async def test_an_earlier_version_of_an_animal_is_searched_on_the_worker(full_text: KnowledgeService) -> None:
    """Its index may have to be built."""
    lion = full_text.get_animal("lion_001")
    assert lion is not None
    message = "How fast can you run?"
    await full_text.retrieve(lion, message, [])
    earlier = replace(lion, facts=lion.facts[:3])

    assert full_text._search.retrieve_kept(earlier, message, []) == message
    assert set(await full_text.retrieve(earlier, "What do you eat?", [])) <= set(earlier.facts)
