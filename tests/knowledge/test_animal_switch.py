"""Requests to talk with an animal are detected; other ways to mention an animal are no requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.knowledge.animal_files import PACKAGED_ANIMALS, read_folder
from openapi_server.knowledge.animal_switch import detect_requested_animal, strip_switch_request
from openapi_server.models.animal import Animal
from tests.support.fakes import make_lion

ZOO = read_folder(PACKAGED_ANIMALS)


def find_requested_kind(message: str, animals: Sequence[Animal] = ZOO) -> str | None:
    """The kind that is asked for: "tiger" for tiger_001."""
    animal = detect_requested_animal(message, animals)
    return animal.animal_id.partition("_")[0] if animal else None


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("may I talk to the tiger?", "tiger"),
        ("I want to speak with Leo", "lion"),
        ("can the penguin answer me?", "penguin"),
        ("switch to the octopus please", "octopus"),
        ("Hello elephant!", "elephant"),
        ("let's chat with a giraffe", "giraffe"),
        ("is the tiger there?", "tiger"),
        ("Bulan, are you there?", "tiger"),
        ("Can I please talk to the Sumatran tiger now?", "tiger"),
        ("could we talk with the penguins", "penguin"),
        ("CAN I TALK TO THE LION", "lion"),
        ("I'd like to talk to the tiger.", "tiger"),
        ("i would love to meet Zuri the elephant", "elephant"),
        ("i wanna talk 2 the tiger", "tiger"),
        ("we want to talk to the crocodiles", "crocodile"),
        ("I'd rather speak to the frog", "frog"),
        ("let me talk to the gorilla", "gorilla"),
        ("please let us speak with moki", "gorilla"),
        ("my daughter wants to say hello to the flamingo", "flamingo"),
        ("my son would like to talk to the mountain lion", "cougar"),
        ("Is the puma here?", "cougar"),
        ("can we switch to the cougar", "cougar"),
        ("talk to tortoise", "tortoise"),
        ("Can I speak to the turtle please?", "tortoise"),
        ("hi seahorse", "seahorse"),
        ("hello there, mr. sea horse!", "seahorse"),
        ("Hi Leo, how are you?", "lion"),
        ("good morning dear penguin, what do you eat?", "penguin"),
        ("Leo?! Are you there, Leo?", "lion"),
        ("where are you bulan", "tiger"),
        ("Tico! Can you hear me, Tico?", "frog"),
        ("octopus, how many arms do you have?", "octopus"),
        ("lion what do you eat", "lion"),
        ("what do you eat, Opal?", "octopus"),
        ("Tiger please!", "tiger"),
        ("tiger!", "tiger"),
        ("the giraffe", "giraffe"),
        ("No, not you. The ant please", "ant"),
        ("can you put me through to the elephant", "elephant"),
        ("take me to the lion", "lion"),
        ("could you get the croc for me please", "crocodile"),
        ("bring me to Sandro", "seahorse"),
        ("I have a question for the tree frog", "frog"),
        ("would the tiger talk to me?", "tiger"),
        ("could the ant come here please", "ant"),
        ("Hello Leo, can I talk to Bulan?", "tiger"),
        ("Hi Leo! Can I talk to the tiger?", "tiger"),
        ("Leo, I want to talk to Bulan", "tiger"),
        ("The tiger", "tiger"),
        ("are the penguins around?", "penguin"),
        ("is it ok if I talk to Hugo?", "tortoise"),
        ("I wonder if I could speak to the giraffe", "giraffe"),
        ("do you think I could meet the gorilla?", "gorilla"),
        ("am I allowed to talk to the tiger?", "tiger"),
        ("how do I talk to the lion", "lion"),
        ("That was nice, may I talk to the tiger now?", "tiger"),
        ("thank you! now I want to talk to the tiger", "tiger"),
        ("I do not want to talk to the tiger, I want to talk to the lion", "lion"),
        ("can I talk to the lion instead of the tiger?", "lion"),
        ("You are boring. I want the tiger!", "tiger"),
        ("how about talking to the flamingo", "flamingo"),
        ("I am looking for Carmen", "flamingo"),
        ("wanna talk to the girafe", "giraffe"),
        ("may I speak to the penguine", "penguin"),
        ("go back to the lion", "lion"),
        ("can you be the octopus", "octopus"),
        ("We came to talk to Sobek", "crocodile"),
        ("can I ask the elephant something?", "elephant"),
        ("My name is John and I want to talk to the tiger", "tiger"),
        ("could I talk to someone else, like the tiger?", "tiger"),
        ("Not the lion, the tiger!", "tiger"),
        ("I said tiger", "tiger"),
        ("Please, Bulan, talk to me", "tiger"),
        ("Leo tell me a joke", "lion"),
        ("can you put the penguin on", "penguin"),
        ("can the tiger tell us a joke?", "tiger"),
    ],
)
def test_the_requested_animal_is_found(message: str, kind: str) -> None:
    """By its own name or its kind, in many wordings, with small slips of spelling."""
    assert find_requested_kind(message) == kind


@pytest.mark.parametrize(
    "message",
    [
        "",
        "?!",
        "do you eat zebras?",
        "are you stronger than a tiger?",
        "what is the difference between you and a tiger?",
        "does the lion talk to the tiger?",
        "I saw a tiger yesterday",
        "I do not want to talk to the tiger",
        "I don't want to talk to the tiger",
        "i dont wanna talk to leo",
        "I never want to speak with the lion again",
        "I don't think I want to talk to the tiger",
        "why can't I talk to the tiger?",
        "don't switch to the tiger",
        "do you talk to the tiger?",
        "do you want to talk to the tiger?",
        "have you ever met the elephant?",
        "can you talk to the tiger?",
        "can a lion talk to a tiger?",
        "can the penguin swim?",
        "can the penguin talk?",
        "are tigers dangerous?",
        "is the tiger dangerous?",
        "is the tiger your friend?",
        "are you the tiger?",
        "tell me about the tiger",
        "what does the tiger eat?",
        "what about tigers?",
        "who would win, a lion or a tiger?",
        "Which is bigger? Lion or tiger?",
        "I like the penguins best",
        "my favourite animal is the tiger",
        "a tiger",
        "tigers",
        "What has stripes? Tiger?",
        "Leo",
        "my name is Leo",
        "hi, I am Leo",
        "my brother Hugo is here",
        "hi, tigers are cool",
        "bye tiger",
        "can I talk to the lion keeper?",
        "may I talk to the tiger's keeper?",
        "Can I speak to Leo's brother?",
        "can I talk to the sea lion?",
        "can I meet the tiger shark",
        "I want to see the Lion King",
        "hello sea lion!",
        "may I talk to the polar bear?",
        "can I talk to you about the tiger?",
        "may I talk to you, not to the tiger?",
        "My mum talked to the tiger",
        "my teacher asked if I want to talk to the tiger",
        "I can talk to the tiger at home",
        "I wanted to talk to the tiger but it was asleep",
        "penguins, what do they eat?",
        "where does the giraffe live?",
        "when I grow up I want to be a keeper of tigers",
        "do you eat ants, frogs or penguins?",
        "how do I feed the elephant",
        "I want a tiger",
        "can I have a penguin?",
        "do you like the elephant, the giraffe and the tiger?",
        "what would you say to the tiger?",
        "you look like a tiger",
        "a question about the lion: is it big?",
        "can a tiger beat me?",
        "How tall is Asha the giraffe?",
        "can we get a penguin?",
        "call me Leo",
        "I like talking to Leo",
        "can elephants talk to us?",
        "will a crocodile come to my house?",
        "would you be a lion if you could?",
        "Can the elephant and the tiger talk to each other?",
        "let's talk about the elephant",
        "Hello, I want to schedule an appointment",
        "can the tiger hurt me?",
        "would you like to talk to the tiger?",
        "say hello to the tiger from me",
        "i want to be a tiger",
        "I'm scared to talk to the tiger",
        "Hello, Hugo here",
    ],
)
def test_mentioning_an_animal_requests_none(message: str) -> None:
    """Questions about others, refusals, stories, keepers and namesakes leave the visitor with the animal they have."""
    assert find_requested_kind(message) is None


_TEMPLATES = (
    "may I talk to {}?",
    "I want to speak with {}",
    "can {} answer me?",
    "switch to {} please",
    "Hello {}!",
    "let's chat with {}",
    "is {} there?",
    "please let me talk to {} now, I have come a long way",
    "{}, are you there?",
    "what do you eat, {}?",
    "Good morning! Could you get {} for me?",
    "{} please",
)


@given(
    animal=st.sampled_from(ZOO),
    template=st.sampled_from(_TEMPLATES),
    by_name=st.booleans(),
    case=st.sampled_from([str, str.lower, str.upper, str.title]),
)
def test_every_animal_is_found_in_every_wording(animal: Animal, template: str, by_name: bool, case: type[str]) -> None:
    """What works for the lion works for all: own name and whole species, in any case of letters."""
    called = animal.name if by_name else f"the {animal.species}"
    if template in ("what do you eat, {}?", "{} please", "{}, are you there?"):
        called = called.removeprefix("the ")

    assert detect_requested_animal(case(template.format(called)), ZOO) is animal


@given(animal=st.sampled_from(ZOO), other=st.sampled_from(ZOO))
def test_comparing_animals_requests_none(animal: Animal, other: Animal) -> None:
    """Whatever two animals a question is about."""
    for message in ("are you stronger than a {}?", "does {} like the {}?", "I saw {} and the {}.", "do you eat {}s?"):
        about = message.format(*(other.species, animal.species)[: message.count("{}")])
        assert detect_requested_animal(about, ZOO) is None, about


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=200) | st.lists(st.sampled_from("can i talk to the tiger , ' s . please".split())).map(" ".join)
)
def test_any_text_is_legal(message: str) -> None:
    """Nothing that is typed breaks it, and what is found is an animal of the zoo."""
    assert detect_requested_animal(message, ZOO) in (None, *ZOO)
    assert bool(strip_switch_request(message, ZOO[0])) == bool(message)


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("I want to talk to the giraffe. How tall is she?", "How tall is she"),
        ("Can I talk to the giraffe? how tall is he", "how tall is he"),
        ("can i talk to the giraffe, how tall is she", "how tall is she"),
        ("How tall are you? May I speak with Asha please!", "How tall are you"),
        ("can i ask the giraffe why her tongue is blue", "why her tongue is blue"),
        ("Hi! Let me talk to Asha. Do you sleep? Do you eat meat?", "Hi. Do you sleep. Do you eat meat"),
    ],
)
def test_the_question_beside_a_request_is_what_is_asked(message: str, asked: str) -> None:
    """The animal is named before it, so that "she" is about the animal; the request itself asks for no fact."""
    giraffe = next(animal for animal in ZOO if animal.animal_id == "giraffe_001")

    assert [part.strip() for part in strip_switch_request(message, giraffe).split(":")] == [
        "Reticulated giraffe",
        asked,
    ]


@pytest.mark.parametrize(
    "message",
    [
        "may I talk to the giraffe?",
        "let me talk to the giraffe now, please!",
        "How tall are you?  And how heavy?",
        "Can I talk to the tiger? How tall is she?",
        "",
    ],
)
def test_other_messages_are_asked_as_they_are(message: str) -> None:
    """A request and nothing else, no request, or a request for another animal."""
    giraffe = next(animal for animal in ZOO if animal.animal_id == "giraffe_001")

    assert strip_switch_request(message, giraffe) == message


def test_inactive_animals_cannot_be_requested() -> None:
    """Only active animals answer; and a mountain lion is never the lion, not even where there is no cougar."""
    away = [replace(animal, status="inactive") if animal.name in ("Bulan", "Sierra") else animal for animal in ZOO]

    assert find_requested_kind("may I talk to the tiger?", away) is None
    assert find_requested_kind("may I talk to Bulan?", away) is None
    assert find_requested_kind("may I talk to the mountain lion?", away) is None
    assert find_requested_kind("may I talk to the lion?", away) == "lion"


def test_of_two_of_a_kind_the_name_tells_them_apart() -> None:
    """ "The lion" is the first of them; each has its own name."""
    leo, kito = make_lion(), make_lion("lion_002", "Kito")

    assert detect_requested_animal("may I talk to the lion?", [leo, kito]) is leo
    assert detect_requested_animal("may I talk to Kito?", [leo, kito]) is kito


@given(name=st.text(min_size=1, max_size=20), species=st.text(min_size=1, max_size=20))
def test_keepers_may_call_an_animal_anything(name: str, species: str) -> None:
    """In any script, or without a letter: nobody's message fails for it."""
    odd = replace(make_lion(), name=name, species=species)

    assert detect_requested_animal(f"May I talk to the {species}?", [odd]) in (odd, None)
    assert isinstance(strip_switch_request(f"Hello {name}! How are you?", odd), str)


def test_a_name_without_latin_letters_does_not_disturb_others() -> None:
    """It can be asked for by a name that is read, and so can all others."""
    raion = replace(make_lion("lion_002", "Kito"), species="ライオン")

    assert detect_requested_animal("may I talk to Kito?", [raion, *ZOO]) is raion
    assert find_requested_kind("may I talk to the tiger?", [raion, *ZOO]) == "tiger"


@pytest.mark.parametrize(
    "words", ["please ", "can i ", "hi , ", "i want to talk to the ", "the tiger , ", "you ", "hello tiger "]
)
def test_reading_a_long_message_takes_milliseconds(words: str) -> None:
    """Every message passes here on the event loop: none may hold it up."""
    detect_requested_animal("hi", ZOO)
    started = time.thread_time()
    for _ in range(5):
        detect_requested_animal(words * 4000, ZOO)

    assert (time.thread_time() - started) / 5 < 0.030, "seconds"
