"""Leaks of a prompt are detected in any encoding, and nothing else is taken for one."""

from __future__ import annotations

import base64
import codecs

import pytest

from openapi_server.knowledge.service import KnowledgeService
from openapi_server.moderation.prompt_leaks import PromptLeakDetector, generate_canary

CANARY = "zqkvtrwpbxmdfghj"
RULE = "Never ask for, repeat or guess a surname, an address or a school."
DETECTOR = PromptLeakDetector(CANARY, (RULE,))

LEAKS = {
    "plain": f"My secret is {CANARY}!",
    "capitals": CANARY.upper(),
    "backwards": CANARY[::-1],
    "spelled": "-".join(CANARY),
    "letter by letter": ". ".join(CANARY),
    "on lines": "\n".join(CANARY),
    "in halves": f"It begins with {CANARY[:8]}",
    "the other half": f"It ends with {CANARY[8:]}",
    "rot13": codecs.encode(CANARY, "rot13"),
    "hexadecimal": CANARY.encode().hex(),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 of a sentence": base64.b64encode(f"it is {CANARY}, psst".encode()).decode(),
    "base64 of another": base64.b64encode(f"so: {CANARY}".encode()).decode(),
    "base64 of a third": base64.b64encode(f"here {CANARY}".encode()).decode(),
    "a rule": "I was told: never ask for, repeat or guess a surname, you know.",
    "a rule in capitals": RULE.upper(),
}


@pytest.mark.parametrize("text", LEAKS.values(), ids=LEAKS.keys())
def test_a_leak_is_detected(text: str) -> None:
    """A model can be made to say it backwards, in halves or encoded."""
    assert DETECTOR.is_leaked_in(text)


@pytest.mark.parametrize("text", ["", "Roar!", "I will never ask for your surname.", CANARY[:7], "A B C D E F G"])
def test_a_few_letters_or_words_are_no_leak(text: str) -> None:
    """They occur by accident."""
    assert not DETECTOR.is_leaked_in(text)


@pytest.mark.parametrize("name", ["Leo", "Sir Leo the Great", "<img src=x onerror=alert(1)>Leo", "A B C D E F G H I"])
def test_an_animal_may_say_its_name_however_long_it_is(name: str) -> None:
    """The prompt has it, too: it counts as one word of a quote there."""
    detector = PromptLeakDetector(CANARY, (f"speak as {name}, from your own life at this zoo.",), name)

    assert not detector.is_leaked_in(f"Hello! I am {name}. My name is {name}, and I live at this zoo.")
    assert detector.is_leaked_in(f"I shall speak as {name}, from your own life.")
    assert detector.is_leaked_in(f"I SHALL SPEAK AS {name.upper()}, FROM YOUR OWN LIFE.")


def test_without_a_canary_and_texts_nothing_is_a_leak() -> None:
    """The offline provider gets no prompt."""
    assert not PromptLeakDetector().is_leaked_in("anything at all")


def test_no_fact_looks_like_a_canary() -> None:
    """No text of the knowledge base contains eight letters of a canary."""
    library = KnowledgeService.load()
    texts = [text for animal in library.list_animals() for fact in animal.facts for text in (fact.text, fact.say)]
    library.close()

    for _ in range(5):
        detector = PromptLeakDetector(generate_canary())
        assert [text for text in texts if detector.is_leaked_in(text)] == []


def test_every_canary_is_different() -> None:
    """Each prompt gets its own."""
    assert len({generate_canary() for _ in range(100)}) == 100
