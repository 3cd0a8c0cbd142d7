"""The history in a prompt: in order, within its budget, and without marks of chat templates."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.prompt_history import (
    HISTORY_TOKENS,
    MAX_EXCHANGES,
    ChatMessage,
    ChatRole,
    break_template_marks,
    estimate_tokens,
    make_messages,
)
from tests.support.examples import DELICATE_TEXTS
from tests.support.fakes import make_lion


def make_prompt(message: str = "Do you roar?", **parts: object) -> Prompt:
    whole = Prompt(make_lion(), AgeGroup.ELEMENTARY, message)
    return replace(whole, **parts)  # type: ignore[arg-type]  # whatever a test wants to be different


def test_roles_alternate_and_the_message_is_last() -> None:
    """In its order."""
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
def test_irregular_histories_are_merged(prompt: Prompt, expected: list[tuple[str, str]]) -> None:
    """Some servers refuse two messages of one role in a row, empty ones, or a reply at the start."""
    assert [(message.role.value, message.text) for message in make_messages(prompt)] == expected


@pytest.mark.parametrize("message", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
def test_the_message_is_last_and_unchanged(message: str) -> None:
    """Unchanged, however small the budget for the history is."""
    prompt = make_prompt(message, history=(Exchange("x" * 900, "y" * 900),))

    assert make_messages(prompt, 0) == (ChatMessage(ChatRole.USER, break_template_marks(message)),)
    assert make_messages(prompt)[-1] == ChatMessage(ChatRole.USER, break_template_marks(message))


def test_only_the_last_ten_exchanges_are_sent() -> None:
    """Even if the budget allows more."""
    history = tuple(Exchange(f"q{number}", f"a{number}") for number in range(50))

    told = make_messages(make_prompt(history=history))
    assert [message.text for message in told[:2]] == ["q40", "a40"]
    assert len(told) == 2 * MAX_EXCHANGES + 1


def test_a_long_exchange_drops_those_before_it() -> None:
    """The kept history has no gaps: it is the newest part that fits the budget."""
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
def test_any_history_fits_its_budget_and_keeps_its_order(
    history: list[Exchange], message: str, summary: str | None, budget: int
) -> None:
    """The message does not count; the oldest exchanges are dropped first."""
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
def test_template_marks_are_broken(mark: str, depth: int) -> None:
    """Wherever they are: breaking twice changes nothing more, and no other text is lost."""
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
def test_other_text_is_unchanged(text: str) -> None:
    """Such as the hearts that children write."""
    assert break_template_marks(text) == text
