"""Leaks of a prompt are detected in any encoding, and nothing else is taken for one."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server import linear_regex
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


WORDS = linear_regex.compile(r"\w+")
NAME = "Sir Leo the Great"
INSTRUCTIONS = (RULE, f"Speak as {NAME}, from your own life at this zoo; über alles, ΣΊΣΥΦΟΣ and straße too, o_o.")


def list_forms(canary: str) -> Iterator[str]:
    yield from (canary, canary[::-1], codecs.encode(canary, "rot13"), canary.encode().hex())
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + canary.encode()).decode()
        yield code[4 if shift else 0 : len(code) - 4].casefold()


def list_runs(parts: Iterable[str], count: int) -> set[tuple[str, ...]]:
    listed = list(parts)
    return {tuple(listed[at : at + count]) for at in range(len(listed) - count + 1)}


def is_leaked_by_definition(text: str) -> bool:
    """Eight letters of a form in a row, or seven words: compared one by one."""
    letters = list_runs(filter(str.isalnum, text.casefold()), 8)
    texts = [each.casefold().replace(NAME.casefold(), " name ") for each in (text, *INSTRUCTIONS)]
    said, *told = (list_runs(WORDS.findall(each), 7) for each in texts)
    return any(letters & list_runs(form, 8) for form in list_forms(CANARY)) or bool(said & set().union(*told))


def take_part(text: str, start: int, length: int) -> str:
    return text[start % len(text) :][:length]


PARTS = st.one_of(
    st.builds(take_part, st.sampled_from([*list_forms(CANARY)]), st.integers(0, 40), st.integers(1, 20)),
    st.builds(take_part, st.sampled_from(INSTRUCTIONS), st.integers(0, 90), st.integers(1, 90)),
    st.sampled_from([*LEAKS.values(), NAME, " ", "-", "_", "ß", "²", "Σ", "ſ", "\u0130", "\ud800", "\x1c"]),
    st.text(max_size=8),
)


@given(text=st.lists(PARTS, max_size=6).map("".join), changes_case=st.booleans())
def test_what_is_found_is_what_the_definition_says(text: str, changes_case: bool) -> None:
    """The detector looks for a few pieces of the canary first, and reads ASCII as bytes."""
    text = text.swapcase() if changes_case else text

    assert PromptLeakDetector(CANARY, INSTRUCTIONS, NAME).is_leaked_in(text) == is_leaked_by_definition(text)


@pytest.mark.parametrize("start", range(9))
@pytest.mark.parametrize("form", [*list_forms(CANARY)])
def test_every_eight_characters_of_a_form_are_found(form: str, start: int) -> None:
    """Wherever they begin in it."""
    for at in range(start, len(form) - 7, 9):
        assert DETECTOR.is_leaked_in(f"it is {form[at : at + 8]}")
        assert not DETECTOR.is_leaked_in(f"it is {form[at : at + 7]}")
