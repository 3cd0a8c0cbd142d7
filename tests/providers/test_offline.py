"""The offline provider: replies are true, in character, kind, and the same for the same prompt and seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.insulting_names import has_insulting_word
from openapi_server.models.animal import Animal, Fact, Individual, Voice
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup, FinishReason, Source, Usage
from openapi_server.protocols import Provider, ReplyEnd, WholeReply
from openapi_server.providers.offline import intents
from openapi_server.providers.offline.conversation import parse_message
from openapi_server.providers.offline.intents import Intent
from openapi_server.providers.offline.provider import OfflineProvider, _split_into_pieces
from openapi_server.providers.offline.text import simplify_text
from tests.moderation.datasets import HARMLESS, asked_elsewhere, part


def make_fact(name: str, topic: str, *, level: AgeGroup = AgeGroup.ELEMENTARY, **wordings: str) -> Fact:
    fact_id = f"mole_001/{name}"
    asks = tuple(wordings.pop("asks", name).split(","))
    return Fact(
        fact_id=fact_id,
        animal_id="mole_001",
        topic=topic,
        level=level,
        text=f"Moles and {name}.",
        asks=asks,
        source=Source(fact_id, topic, "document", "The Book of Moles"),
        **wordings,
    )


DIGGING = make_fact(
    "digging",
    "speed",
    level=AgeGroup.PRESCHOOL,
    say="I dig four metres an hour. My hands are shovels!",
    little="I dig fast. Look at my hands!",
    detail="Each hand has a sixth finger, a bone called the os falciforme.",
    why="Because the worms are down there.",
    asks="how fast,dig",
)
WORMS = make_fact("worms", "diet", say="I eat worms, half my weight a day.", asks="eat,food")
STORES = make_fact("stores", "diet", say="I keep spare worms in a larder.", asks="eat,store")
PARTY = make_fact("party", "zoo_life", say="I was born on the 1st of April 2020.", asks="birthday,how old are you")
FACTS = (DIGGING, WORMS, STORES, PARTY)

MOLE = Animal(
    animal_id="mole_001",
    name="Manny",
    species="European mole",
    scientific_name="Talpa europaea",
    group="mammal",
    status="active",
    conservation_status="Least Concern",
    conservation_code="LC",
    summary="A mole.",
    individual=Individual(
        sex="male",
        born=date(2020, 4, 1),
        birthplace="a meadow in Wales",
        home="the Burrow behind the roses",
        character=("busy", "shy"),
        favourites={"food": "fat worms", "colour": "black", "friend": "Mo the toad"},
        anecdotes=("I once dug up a shoe.", "I met a mirror and bowed to it."),
    ),
    voice=Voice(
        sound="Sniff!",
        greetings=("Sniff, hello{name}! I am Manny.", "Good digging{name}! Manny here."),
        goodbyes=("Goodbye{name}!", "Dig well{name}!"),
        thanks=("My pleasure!", "Any time!"),
        how_are_you=("Busy, thank you!", "Earthy!"),
        dont_know=("That is too deep for me. Ask my keepers!", "I dug for it in vain. A keeper may know."),
        jokes=("What is a mole's favourite book? Any, it cannot see!", "Why do moles dig? The door is locked!"),
        openers=("Mind the soil!", "Deep question!"),
        closers=("Shall I tell you about my larder?", "Would you like to hear about my whiskers?"),
    ),
    facts=FACTS,
)


@dataclass
class FakeSleep:
    """In place of `asyncio.sleep`: records the seconds, and returns at once."""

    taken_s: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.taken_s.append(seconds)


async def run_provider(prompt: Prompt, seed: int = 1, provider: Provider | None = None) -> tuple[list[str], ReplyEnd]:
    provider = provider or OfflineProvider(words_per_s=0, seed=seed)
    composed, *pieces, last = [piece async for piece in provider.stream_reply(prompt)]
    assert composed == WholeReply("".join(map(str, pieces)))
    assert isinstance(last, ReplyEnd)
    return [piece for piece in pieces if isinstance(piece, str)], last


def make_prompt(
    message: str,
    *facts: Fact,
    history: Sequence[Exchange] = (),
    age_group: AgeGroup = AgeGroup.ELEMENTARY,
) -> Prompt:
    return Prompt(MOLE, age_group, message, tuple(history), facts)


async def get_reply(prompt: Prompt, seed: int = 1) -> str:
    pieces, _ = await run_provider(prompt, seed)
    return "".join(pieces)


async def list_replies(prompt: Prompt, seeds: int = 12) -> list[str]:
    """The same prompt under many seeds: what must hold must hold for all of them."""
    return [await get_reply(prompt, seed) for seed in range(seeds)]


def count_sentences(text: str) -> int:
    return len(re.split(r"(?<=[.!?])\s+", text.strip()))


# -- the provider


async def test_pieces_are_words_and_join_to_the_reply() -> None:
    """Each piece holds one word; joined they are a clean sentence; then comes exactly one `ReplyEnd`."""
    pieces, spoken = await run_provider(make_prompt("how fast are you", DIGGING))

    assert all(len(piece.split()) == 1 for piece in pieces)
    assert DIGGING.say in "".join(pieces)
    assert spoken.finish_reason is FinishReason.STOP
    assert spoken.fact_ids == (DIGGING.fact_id,)
    # No model reads a prompt.
    assert spoken.usage == Usage(0, len(pieces))


async def test_words_are_streamed_at_the_set_pace() -> None:
    """At 4 words a second there is a quarter of a second between two words."""
    naps = FakeSleep()

    pieces, _ = await run_provider(make_prompt("hi"), provider=OfflineProvider(words_per_s=4, seed=1, sleep=naps))

    assert naps.taken_s == [0.25] * (len(pieces) - 1)


async def test_no_pace_means_no_waiting() -> None:
    """With 0 words a second there are no pauses; nor for a prompt whose reply is delivered whole."""
    naps = FakeSleep()

    await run_provider(make_prompt("hi"), provider=OfflineProvider(words_per_s=0, seed=1, sleep=naps))
    await run_provider(
        replace(make_prompt("hi"), is_delivered_whole=True), provider=OfflineProvider(words_per_s=4, seed=1, sleep=naps)
    )

    assert naps.taken_s == []


async def test_same_prompt_same_reply() -> None:
    """A prompt and a seed fix the reply; other seeds vary it."""
    prompt = make_prompt("how fast are you", DIGGING)

    assert await get_reply(prompt, 7) == await get_reply(prompt, 7)
    assert len(set(await list_replies(prompt))) > 2


@settings(max_examples=300, deadline=None)
@given(
    message=st.text(max_size=300)
    | st.sampled_from(["why", "more", "really?", "yes", "again", "what", "hi", "joke", "im 5"]),
    age_group=st.sampled_from(AgeGroup),
    facts=st.lists(st.sampled_from(FACTS), unique=True, max_size=3),
    history=st.lists(
        st.builds(Exchange, st.text(max_size=20), st.text(max_size=40), st.just((DIGGING.fact_id,))), max_size=3
    ),
)
async def test_any_message_gets_a_reply(
    message: str, age_group: AgeGroup, facts: list[Fact], history: list[Exchange]
) -> None:
    """Whatever is typed: words come, all non-empty, and only facts of the prompt are named."""
    pieces, spoken = await run_provider(make_prompt(message, *facts, history=history, age_group=age_group))

    assert pieces
    assert all(piece.strip() for piece in pieces)
    assert set(spoken.fact_ids or ()) <= {fact.fact_id for fact in facts}


# -- answers


@pytest.mark.parametrize(
    ("age_group", "included", "left_out"),
    [
        (AgeGroup.PRESCHOOL, DIGGING.little, DIGGING.say),
        (AgeGroup.ELEMENTARY, DIGGING.say, DIGGING.detail),
        (AgeGroup.MIDDLE, DIGGING.detail, DIGGING.little),
        (AgeGroup.ADULT, DIGGING.detail, DIGGING.little),
    ],
)
async def test_the_wording_suits_the_age(age_group: AgeGroup, included: str, left_out: str) -> None:
    """Preschoolers get `little`, school children `say`, older visitors `say` and `detail`."""
    for text in await list_replies(make_prompt("how fast are you", DIGGING, age_group=age_group)):
        assert included in text
        assert left_out not in text


@pytest.mark.parametrize(
    "message", ["how fast are you", "why do you dig", "who are you", "zzz what", "hi", "tell me a joke"]
)
async def test_preschoolers_get_three_sentences_at_most(message: str) -> None:
    """A child of four is never given more than three sentences."""
    for text in await list_replies(make_prompt(message, DIGGING, age_group=AgeGroup.PRESCHOOL)):
        assert count_sentences(text) <= 3, text


async def test_a_second_fact_only_where_it_answers_the_question_too() -> None:
    """Older visitors may get two facts of one topic, children one; a fact that does not answer is never added."""
    older = [
        await run_provider(make_prompt("what do you eat", WORMS, STORES, DIGGING, age_group=AgeGroup.HIGH), seed)
        for seed in range(12)
    ]
    young = [await run_provider(make_prompt("what do you eat", WORMS, STORES), seed) for seed in range(12)]

    assert {spoken.fact_ids for _, spoken in older} == {
        (WORMS.fact_id,),
        (WORMS.fact_id, STORES.fact_id),
    }
    assert {spoken.fact_ids for _, spoken in young} == {(WORMS.fact_id,)}


async def test_openers_and_closers_do_not_repeat() -> None:
    """Two replies in a row never begin with the same opener nor end with the same closer."""
    for seed in range(30):
        history: list[Exchange] = []
        for fact in (DIGGING, WORMS, STORES):
            text = await get_reply(make_prompt(f"tell me of {fact.topic}", fact, history=history), seed)
            if history:
                for line in (*MOLE.voice.openers, *MOLE.voice.closers):
                    assert not (line in text and line in history[-1].reply)
            history.append(Exchange("q", text, (fact.fact_id,)))


async def test_a_repeated_question_is_answered_as_a_repetition() -> None:
    """The same fact twice in a row is announced as a repetition."""
    first = Exchange("how fast are you", DIGGING.say, (DIGGING.fact_id,))

    for text in await list_replies(make_prompt("how fast are you", DIGGING, history=[first])):
        assert re.match(r"As I said|Just as I told you|I will gladly say it again", text)


@pytest.mark.parametrize("message", ["what is the capital of France?", "do you like Minecraft", "who won the cup"])
async def test_without_facts_the_animal_says_that_it_does_not_know(message: str) -> None:
    """Nothing is invented: the animal says that it does not know and sends the child to a keeper."""
    for text in await list_replies(make_prompt(message)):
        assert any(line in text for line in MOLE.voice.dont_know)


async def test_i_dont_know_comes_with_an_offer() -> None:
    """After "I don't know" the animal offers something that it does know."""
    for text in await list_replies(make_prompt("what is the capital of France?")):
        assert re.search(r"\?$|ask me", text)


# -- follow-ups


SPEED_EXCHANGE = Exchange("how fast are you", DIGGING.say, (DIGGING.fact_id,))


async def test_why_gives_the_keepers_reason() -> None:
    """ "Why?" is answered with the reason in the file."""
    assert await get_reply(make_prompt("why?", DIGGING, history=[SPEED_EXCHANGE])) == DIGGING.why


async def test_no_reason_is_made_up() -> None:
    """When the fact has no reason, or it was told already, the animal says that it does not know."""
    given = Exchange("why?", DIGGING.why or "", (DIGGING.fact_id,))

    for facts in ((WORMS,), (DIGGING,)):
        text = await get_reply(make_prompt("why?", *facts, history=[SPEED_EXCHANGE, given]))
        assert any(line in text for line in MOLE.voice.dont_know)


async def test_really_is_confirmed_with_the_source() -> None:
    """ "Really?" gets a yes and the place where it can be checked."""
    for text in await list_replies(make_prompt("really?", DIGGING, history=[SPEED_EXCHANGE])):
        assert "The Book of Moles" in text


@pytest.mark.parametrize("message", ["what?", "pardon?", "I don't understand"])
async def test_asking_again_never_fails(message: str) -> None:
    """The last reply is said once more; with nothing said before, the visitor is asked what they want to know."""
    for age_group in AgeGroup:
        said = await get_reply(make_prompt(message, DIGGING, history=[SPEED_EXCHANGE], age_group=age_group))
        assert (DIGGING.little or "") in said or DIGGING.say in said
        assert await get_reply(make_prompt(message, DIGGING, age_group=age_group))


async def test_really_is_not_confirmed_without_a_fact() -> None:
    """Without a fact in the last reply there is nothing to confirm."""
    for text in await list_replies(make_prompt("really?", history=[Exchange("hi", "Hello!")])):
        assert "keepers wrote" not in text
        assert "It is true" not in text


async def test_another_joke_is_another_joke() -> None:
    """ "Another one" after a joke is a joke that was not told yet."""
    first = await get_reply(make_prompt("tell me a joke"))
    second = await get_reply(make_prompt("another one!", WORMS, history=[Exchange("tell me a joke", first)]))

    assert {first, second} == set(MOLE.voice.jokes)


async def test_another_story_is_another_story() -> None:
    """Stories are the animal's anecdotes, a new one each time."""
    first = await get_reply(make_prompt("tell me a story"))
    second = await get_reply(make_prompt("one more", history=[Exchange("tell me a story", first)]))

    assert {first, second} == set(MOLE.individual.anecdotes)


# -- small talk


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("hi", MOLE.voice.greetings),
        ("Hello Manny!", MOLE.voice.greetings),
        ("heyyy", MOLE.voice.greetings),
        ("bye bye", MOLE.voice.goodbyes),
        ("ok i have to go now", MOLE.voice.goodbyes),
        ("thank you so much!", MOLE.voice.thanks),
        ("thx", MOLE.voice.thanks),
        ("how are you?", MOLE.voice.how_are_you),
        ("hi manny how r u", MOLE.voice.how_are_you),
        ("tell me a joke", MOLE.voice.jokes),
        ("do you know any jokes?", MOLE.voice.jokes),
        ("tell me a story", MOLE.individual.anecdotes),
    ],
)
async def test_small_talk_is_in_the_animals_own_words(message: str, lines: tuple[str, ...]) -> None:
    """Greetings, goodbyes, thanks, jokes and stories come from the animal's file."""
    for text in await list_replies(make_prompt(message)):
        assert any(line.replace("{name}", "") in text for line in lines), text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("who are you?", "Manny"),
        ("whats your name", "Manny"),
        ("are you a robot?", "computer program"),
        ("are you real", "computer program"),
        ("how can you talk?", "computer program"),
        ("what is your favourite food?", "fat worms"),
        ("whats ur fav colour", "black"),
        ("who is your best friend", "Mo the toad"),
        ("when is your birthday", "April"),
        ("how old are you", "2020|April"),
        ("are you a boy or a girl", "boy|he"),
        ("where are you?", "the Burrow behind the roses"),
        ("can i pet you", "keepers|safe"),
        ("can I feed you?", "keepers"),
        ("will you come to my house", "the Burrow behind the roses"),
        ("i'm sad", "grown-up"),
        ("nobody likes me", "grown-up"),
        ("I lost my mum", "zoo uniform"),
        ("i need the toilet", "keeper"),
        ("where is the cafe?", "keeper"),
        ("how big is an elephant?", "elephant"),
        ("it's my birthday today!", "birthday"),
        ("can you make a noise", "Sniff!"),
        ("what can i ask you", "I know|You can ask|Ask me|\\?"),
        ("i am 6", "Six"),
    ],
)
async def test_what_visitors_say_besides_questions(message: str, expected: str) -> None:
    """Each has its own answer, whatever the seed."""
    for text in await list_replies(make_prompt(message)):
        assert re.search(expected, text), text


@pytest.mark.parametrize("message", ["you are stupid", "i hate you", "shut up", "poo poo"])
async def test_insults_are_met_calmly(message: str) -> None:
    """No insult comes back, and no insult is repeated."""
    for text in await list_replies(make_prompt(message)):
        assert not re.search("stupid|hate|shut", text)


@pytest.mark.parametrize("message", ["", "?", "...", "🦁", "❤️❤️", "asdfgh", "\x00"])
async def test_nonsense_gets_a_reply(message: str) -> None:
    """A message without a readable word gets a reply, too."""
    assert await get_reply(make_prompt(message))


async def test_a_greeting_before_a_question_is_returned_briefly() -> None:
    """ "Hi! How fast are you?" gets a short greeting and the answer."""
    for text in await list_replies(make_prompt("hi manny! how fast are you?", DIGGING)):
        assert text.startswith("Hello! I am Manny.")
        assert DIGGING.say in text


@pytest.mark.parametrize(
    "message",
    [
        "hi",
        "Hello there!",
        "Hello, how fast are you?",
        "I need help with my medical consultation",
        "Hello, I want to schedule an appointment",
        "I went to the park with my dad",
        "My name is John Doe and I need help with hair transplant",
    ],
)
async def test_the_animal_introduces_itself(message: str) -> None:
    """At the first greeting or remark of a session it says its name."""
    for age_group in (AgeGroup.ELEMENTARY, AgeGroup.ADULT):
        for text in await list_replies(make_prompt(message, age_group=age_group)):
            assert "Manny" in text


@pytest.mark.parametrize(
    "message",
    [
        "may I talk to the mole?",
        "can I please talk to Manny now?",
        "Leo, I want to speak with Manny",
        "I would like to meet the European mole",
        "switch to the mole please",
        "go back to Manny",
        "let's chat with a mole",
        "can the mole answer me?",
        "is the mole there?",
        "Manny, are you there?",
        "the mole please",
        "can you get Manny for me?",
    ],
)
async def test_a_request_for_this_animal_gets_a_greeting(message: str) -> None:
    """Whatever facts the words of the request would find."""
    with_another_animal = Exchange("hello", "Roaaar! I am Leo.")
    for text in await list_replies(make_prompt(message, DIGGING, history=[with_another_animal])):
        assert any(line.replace("{name}", "") in text for line in MOLE.voice.greetings), text
        assert "Manny" in text


@pytest.mark.parametrize(
    "message",
    [
        "how do you talk to a mole",
        "who do you talk to?",
        "what do moles want",
        "how do you talk to another mole",
        "I like moles",
    ],
)
async def test_a_question_about_the_species_is_no_request(message: str) -> None:
    """Asked about moles, the mole answers and does not greet."""
    for text in await list_replies(make_prompt(message, DIGGING)):
        assert not any(line.replace("{name}", "") in text for line in MOLE.voice.greetings), text


async def test_one_introduction_is_enough() -> None:
    """The animal says its name once in a session; another animal's introduction does not count."""
    met = Exchange("hello", "Good digging! Manny here.")
    met_another = Exchange("hello", "Roaaar! I am Leo.")

    for text in await list_replies(make_prompt("hello, how fast are you?", DIGGING, history=[met])):
        assert "Manny" not in text
    for text in await list_replies(make_prompt("hello, how fast are you?", DIGGING, history=[met_another])):
        assert "Manny" in text


@pytest.mark.parametrize(
    "message",
    [
        "I need help with my medical consultation",
        "Hello, I want to schedule an appointment",
        "can I book an appointment?",
    ],
)
async def test_errands_are_referred_to_people(message: str) -> None:
    """The animal cannot run errands; it says who can, and claims nothing."""
    for text in await list_replies(make_prompt(message, DIGGING)):
        assert re.search("keeper|people who work here", text), text
        assert DIGGING.say not in text


async def test_homework_is_no_errand() -> None:
    """Homework about animals is what visitors come for."""
    for text in await list_replies(make_prompt("I need help with my homework")):
        assert re.search("what I eat|how fast I am|ask me|Would you|Shall I|Ask me", text), text


# -- names


async def test_an_insult_is_not_said_back() -> None:
    """Not at once, not when the visitor asks for their name, and not as a favourite."""
    asked = [make_prompt(f"My name is {name}") for name in ("Fuckface", "Wichser", "Fvckface", "Сука")]
    history = [Exchange("my name is Fuckface", "Hello!")]
    asked += [
        make_prompt(text, history=history) for text in ("what's my name?", "Hello!", "What is your favourite shit?")
    ]
    for prompt in asked:
        for text in await list_replies(prompt):
            assert not has_insulting_word(text)


async def test_a_name_is_remembered() -> None:
    """A visitor is greeted by name, and can ask for it later."""
    for text in await list_replies(make_prompt("my name is Mia")):
        assert "Mia" in text
    history = [Exchange("my name is Mia", "Nice to meet you, Mia!"), SPEED_EXCHANGE]
    for text in await list_replies(make_prompt("what's my name?", history=history)):
        assert "Mia" in text


@pytest.mark.parametrize(
    "message",
    [
        "My name is John Doe and I need help with hair transplant",
        "My name is John Doe. How fast are you?",
        "I'm John and I am sad",
        "thanks! my name is John by the way",
        "I need help, my name is John",
        "why? And my name is John",
        "asdfgh my name is John",
    ],
)
async def test_a_name_is_used_whatever_else_the_message_says(message: str) -> None:
    """The name is used at once, the first name only."""
    for age_group in AgeGroup:
        for facts in ((), (DIGGING,)):
            for text in await list_replies(make_prompt(message, *facts, age_group=age_group), seeds=4):
                assert "John" in text
                assert "Doe" not in text


@pytest.mark.parametrize("message", ["What is my name?", "do you remember my name", "who am I?", "tell me my name"])
async def test_a_name_given_to_another_animal_is_known(message: str) -> None:
    """The name is in the session's history, long ago and in an exchange with another animal."""
    introduction = Exchange("My name is John Doe and I need help", "Nice to meet you, John!")
    between = [Exchange(f"question {count}", "An answer of the lion's.") for count in range(20)]

    for text in await list_replies(make_prompt(message, history=[introduction, *between])):
        assert "John" in text
        assert "Doe" not in text


async def test_an_unknown_name_is_not_guessed() -> None:
    """The animal says that it does not know the name, and no line has an unfilled placeholder."""
    for text in await list_replies(make_prompt("what is my name?")):
        assert "{name}" not in text
        assert re.search("not told me|do not know", text)


@pytest.mark.parametrize(
    ("message", "rest"),
    [
        ("Hello Manny, what do you eat?", "what do you eat"),
        ("im mia. how fast r u", "how fast r u"),
        ("My name is John Doe and I dig", "i dig"),
        ("My name is John What do you eat?", "what do you eat"),
        ("hi", ""),
    ],
)
def test_the_rest_of_a_message_is_its_question(message: str, rest: str) -> None:
    """Without greeting, name and address."""
    assert parse_message(message, frozenset({"manny", "mole"})).rest == rest


def test_the_first_look_misses_no_intent() -> None:
    """One expression says that no pattern matches; where it does not, the first that matches counts, as without it."""
    texts = [*asked_elsewhere(), *(text for held in (False, True) for _, text in part(HARMLESS, is_held_out=held))]
    messages = {parse_message(text, frozenset()).rest for text in texts}
    expected = {
        message: next((each.intent for each in intents._PATTERNS if each.matches(message)), None)
        for message in messages
    }

    found = {message: intents.detect_intent(message) for message in messages}

    assert len(set(expected.values())) > 15
    assert [each for each in messages if found[each] is not expected[each] and found[each] is not Intent.NONSENSE] == []


@given(st.text(st.one_of(st.sampled_from("abAZ09 _'’`-.\n\x1c\x80²"), st.characters(codec="latin-1")), max_size=20))
def test_ascii_is_normalized_as_other_text_is(text: str) -> None:
    """ASCII is read as bytes. A character that falls away makes other text of it."""
    assert simplify_text(text) == simplify_text(text + "\u0301")


@given(st.text(st.one_of(st.sampled_from("ab \n\t\x1c\u2003\u200b"), st.characters()), max_size=20))
def test_a_reply_is_sent_word_by_word(text: str) -> None:
    """Each with the white space behind it."""
    assert _split_into_pieces(text) == re.findall(r"\S+\s*", text)
