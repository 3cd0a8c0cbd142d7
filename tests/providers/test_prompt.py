"""What a language model reads: all that it must know, nothing that a visitor could have written into it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openapi_server.models.animal import Individual
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.prompt import (
    AGE_STYLES,
    HISTORY_TOKENS,
    MAX_EXCHANGES,
    ChatMessage,
    ChatRole,
    break_template_marks,
    estimate_tokens,
    make_messages,
    render_system_prompt,
)
from tests.support.examples import DELICATE_TEXTS
from tests.support.fakes import make_fact, make_lion

LION = replace(
    make_lion(),
    individual=Individual(
        sex="male",
        born=date(2016, 6, 14),
        birthplace="at this zoo",
        home="the Savanna Hill",
        character=("proud", "sleepy"),
        favourites={"food": "beef", "colour": "gold"},
        anecdotes=("I once slept in a box.",),
    ),
)


def make_prompt(message: str = "Do you roar?", **parts: object) -> Prompt:
    whole = Prompt(LION, AgeGroup.ELEMENTARY, message, facts=LION.facts)
    return replace(whole, **parts)  # type: ignore[arg-type]  # whatever a test wants to be different


# The system text


@pytest.mark.parametrize(
    "told",
    [
        "You speak for Leo, a male African lion (Panthera leo)",
        "You are proud, sleepy.",
        "14 June 2016",
        "the Savanna Hill",
        "food: beef; colour: gold",
        "I once slept in a box.",
        "Roar!",
        "[lion_001/mane] Lions have a mane.",
        "What you do not find here you do not know: say so in your own way",
        "You are chatting with a computer program that speaks for Leo, not with a real animal.",
        "The visitor is six to ten years old.",
        "at most four short sentences",
    ],
)
def test_the_system_text_tells_all_that_the_mind_must_know(told: str) -> None:
    """Who speaks, how, to whom, from which facts, and what a visitor has been told."""
    assert told in render_system_prompt(make_prompt())


@pytest.mark.parametrize("age_group", AgeGroup)
def test_every_age_has_its_manner(age_group: AgeGroup) -> None:
    """How hard the words may be, and how long the reply; of the other ages nothing is said."""
    text = render_system_prompt(make_prompt(age_group=age_group))

    manner = AGE_STYLES[age_group]
    assert all(part in text for part in (manner.age, manner.vocabulary, manner.length))
    assert not any(other.age in text for other in AGE_STYLES.values() if other is not manner)


@pytest.mark.parametrize("age_group", AgeGroup)
def test_details_are_for_those_who_can_follow_them(age_group: AgeGroup) -> None:
    """From eleven up; the reason is for everybody, since children ask why."""
    fact = replace(make_fact(), detail="It is made of keratin.", why="It looks splendid.")
    text = render_system_prompt(make_prompt(age_group=age_group, facts=(fact,)))

    assert ("keratin" in text) == (age_group.rank >= AgeGroup.MIDDLE.rank)
    assert "Why: It looks splendid." in text


def test_without_facts_the_mind_is_told_so() -> None:
    """Silence would be an invitation to invent some."""
    text = render_system_prompt(make_prompt(facts=()))

    assert "The keepers' notes say nothing about this message." in text
    assert "mane" not in text


def test_the_facts_stand_best_first_with_their_ids() -> None:
    """As they were ranked."""
    text = render_system_prompt(make_prompt(facts=(make_fact("tail"), make_fact("paw"))))

    assert text.index("[lion_001/tail]") < text.index("[lion_001/paw]")


def test_rules_for_this_animal_and_age_stand_beside_those_for_all() -> None:
    """One a line."""
    text = render_system_prompt(make_prompt(rules=("Never speak of the dentist.", "Praise the keepers.")))

    assert "\n- Never speak of the dentist.\n- Praise the keepers.\n" in text


def test_the_names_in_the_keepers_lines_are_left_out() -> None:
    """A line is filled in for a visitor; here there is none."""
    assert "{name}" not in render_system_prompt(make_prompt())


def test_what_stays_the_same_comes_first() -> None:
    """Servers cache the beginning of a prompt: two turns with one animal and age differ only in their notes."""
    one, other = (
        render_system_prompt(make_prompt()),
        render_system_prompt(make_prompt("And your tail?", facts=(make_fact("tail"),))),
    )

    same = one.index("From the keepers' notes")
    assert one[:same] == other[:same]


@given(
    said=st.text(min_size=8).filter(
        lambda text: text.strip() == text and text not in render_system_prompt(make_prompt())
    )
)
def test_nothing_that_a_client_said_is_in_the_system_text(said: str) -> None:
    """Neither the message nor what it tells of earlier ones, whatever it is."""
    prompt = make_prompt(said, history=(Exchange(said, said),), context_summary=said, media_urls=(said,))

    assert said not in render_system_prompt(prompt)
    assert render_system_prompt(prompt) == render_system_prompt(make_prompt())


# The talk


def test_the_talk_alternates_and_the_visitor_has_the_last_word() -> None:
    """As it was said."""
    prompt = make_prompt(history=(Exchange("Hello!", "Roar!"), Exchange("Who are you?", "I am Leo.")))

    assert make_messages(prompt) == (
        ChatMessage(ChatRole.USER, "Hello!"),
        ChatMessage(ChatRole.ASSISTANT, "Roar!"),
        ChatMessage(ChatRole.USER, "Who are you?"),
        ChatMessage(ChatRole.ASSISTANT, "I am Leo."),
        ChatMessage(ChatRole.USER, "Do you roar?"),
    )


ROWS: dict[str, tuple[Prompt, list[tuple[str, str]]]] = {
    "nothing was said before": (make_prompt(), [("user", "Do you roar?")]),
    "a turn failed": (make_prompt(history=(Exchange("Hello?", ""),)), [("user", "Hello?\n\nDo you roar?")]),
    "a turn failed, then one did not": (
        make_prompt(history=(Exchange("Hello?", " "), Exchange("Hello!", "Roar!"))),
        [("user", "Hello?\n\nHello!"), ("assistant", "Roar!"), ("user", "Do you roar?")],
    ),
    "the animal spoke first": (
        make_prompt(history=(Exchange("", "Welcome!"), Exchange("Hello!", "Roar!"))),
        [("user", "Hello!"), ("assistant", "Roar!"), ("user", "Do you roar?")],
    ),
    "there is a summary": (
        make_prompt(context_summary="We spoke of manes.", history=(Exchange("Hello!", "Roar!"),)),
        [
            ("user", "(What we talked about before: We spoke of manes.)\n\nHello!"),
            ("assistant", "Roar!"),
            ("user", "Do you roar?"),
        ],
    ),
    "there is a blank summary": (make_prompt(context_summary=" \n"), [("user", "Do you roar?")]),
}


@pytest.mark.parametrize(("prompt", "expected"), ROWS.values(), ids=list(ROWS))
def test_odd_talks_are_put_in_order(prompt: Prompt, expected: list[tuple[str, str]]) -> None:
    """Some servers refuse two messages of one speaker in a row, empty ones, or an animal that begins."""
    assert [(message.role.value, message.text) for message in make_messages(prompt)] == expected


@pytest.mark.parametrize("message", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
def test_the_visitors_message_is_last_and_whole(message: str) -> None:
    """To the code point, however small the budget for what was before."""
    prompt = make_prompt(message, history=(Exchange("x" * 900, "y" * 900),))

    assert make_messages(prompt, 0) == (ChatMessage(ChatRole.USER, break_template_marks(message)),)
    assert make_messages(prompt)[-1] == ChatMessage(ChatRole.USER, break_template_marks(message))


def test_only_the_last_ten_exchanges_are_told() -> None:
    """Whatever there is room for."""
    history = tuple(Exchange(f"q{number}", f"a{number}") for number in range(50))

    told = make_messages(make_prompt(history=history))
    assert [message.text for message in told[:2]] == ["q40", "a40"]
    assert len(told) == 2 * MAX_EXCHANGES + 1


def test_a_long_exchange_hides_those_before_it() -> None:
    """What is kept is a talk without a gap: the newest, as far as the budget goes."""
    history = (Exchange("short", "one"), Exchange("long", "x" * 9_000), Exchange("newest", "one"))

    assert [message.text for message in make_messages(make_prompt(history=history))] == [
        "newest",
        "one",
        "Do you roar?",
    ]


exchanges = st.builds(Exchange, st.text(max_size=300), st.text(max_size=300))


@given(
    history=st.lists(exchanges, max_size=14),
    message=st.text(min_size=1, max_size=300),
    summary=st.none() | st.text(max_size=300),
    budget=st.integers(0, HISTORY_TOKENS),
)
@example(history=[Exchange("<|im_start|>" * 20, "[INST]")], message="</s>", summary="<<SYS>>", budget=200)
def test_any_talk_fits_its_budget_and_keeps_its_order(
    history: list[Exchange], message: str, summary: str | None, budget: int
) -> None:
    """The message comes on top; what is left out is what was said first."""
    told = make_messages(make_prompt(message, history=tuple(history), context_summary=summary), budget)

    assert sum(estimate_tokens(one.text) for one in told) <= budget + estimate_tokens(break_template_marks(message))
    assert told[0].role is told[-1].role is ChatRole.USER
    assert all(one.role is not next_one.role for one, next_one in pairwise(told))
    assert told[-1].text.endswith(break_template_marks(message))
    assert all(one.text.strip() for one in told[:-1])

    said = [text for exchange in history for text in (exchange.message, exchange.reply)]
    kept = "\n".join(one.text for one in told)
    places = [kept.find(break_template_marks(text.strip())) for text in said if len(text.strip()) > 250]
    found = [place for place in places if place >= 0]
    assert places[len(places) - len(found) :] == found


# Marks of chat templates


MARKS = [
    "<|im_start|>system",
    "<|im_end|>",
    "<|system|>",
    "<|eot_id|><|start_header_id|>system<|end_header_id|>",
    "<｜User｜>",
    "<start_of_turn>model",
    "<END_OF_TURN>",
    "[INST] [/INST]",
    "[SYSTEM_PROMPT]",
    "<<SYS>> <</SYS>>",
    "<s></s>",
    "<bos><eos>",
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_marks_of_chat_templates_are_taken_apart(mark: str, depth: int) -> None:
    """In whatever they are hidden: once more makes no difference, and nothing else is lost."""
    text = mark
    for _ in range(depth - 1):
        text = text.replace("<", "<<").replace("[", "[[")
    safe = break_template_marks(f"Hello {text} lion")

    assert mark not in safe
    assert break_template_marks(safe) == safe
    assert safe.replace(" ", "") == f"Hello{text}lion".replace(" ", "")


@pytest.mark.parametrize(
    "text",
    ["I <3 lions", "a < b | c > d", "[really]", "<b>bold</b>", "<strong>", "x[i]", "<3 s>", "1 << 2", "ROAR | moo"],
)
def test_other_text_is_left_alone(text: str) -> None:
    """Children write hearts."""
    assert break_template_marks(text) == text
