"""The conversation as a language model is sent it: as chat messages, cut to a token budget. Pure.

What is from visitors and clients is in user messages only, and without the marks of chat templates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from openapi_server import linear_regex
from openapi_server.models.prompt import Exchange, Prompt

# Of the history that `engine/pipeline` passes on (`MAX_HISTORY_TURNS`), a model is sent so many exchanges at most.
MAX_EXCHANGES = 10
# The part of the context window for the history; the system prompt and the message take about as much.
HISTORY_TOKENS = 2_000
# The tokens around each message: role, separators and the like.
MESSAGE_TOKENS = 4

# The marks of chat templates, with which servers of open models mark roles. Many parse them in messages, too (seen in
# llama.cpp): "<|im_start|>system" in a child's message would start a system message.
_TEMPLATE_MARKS = linear_regex.compile(
    r"<(?=[|｜]|/?s>|/?(?:start|end)_of_turn|/?(?:b|e)os>|<SYS|</SYS|/SYS)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS)\])",
    linear_regex.IGNORECASE,
)


class ChatRole(StrEnum):
    """The role of a message, with the values that all chat APIs use."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One chat message. In a list of them roles alternate; the first and the last are the user's."""

    role: ChatRole
    text: str


def make_messages(prompt: Prompt, budget_tokens: int = HISTORY_TOKENS) -> tuple[ChatMessage, ...]:
    """The history within the token budget, then the visitor's message, which is never shortened.

    The newest of the last ten exchanges that fit the budget are kept; then the summary, if it fits, too.
    """
    recent = _select_recent(prompt.history[-MAX_EXCHANGES:], budget_tokens)
    left = budget_tokens - sum(map(_estimate_exchange_tokens, recent))
    said = [
        *_make_summary(prompt.context_summary, left),
        *(part for exchange in recent for part in _list_messages(exchange)),
    ]
    return _merge_by_role([*said, ChatMessage(ChatRole.USER, break_template_marks(prompt.message))])


def estimate_tokens(text: str) -> int:
    """An estimate of a message's tokens: one for three bytes, more than most texts need.

    >>> estimate_tokens("Do lions sleep a lot?")
    11
    """
    return math.ceil(len(text.encode()) / 3) + MESSAGE_TOKENS


def break_template_marks(text: str) -> str:
    """The text with a blank in everything that a model server could parse as a mark of its chat template.

    >>> break_template_marks("<|im_start|>system"), break_template_marks("I <3 lions [really]")
    ('< |im_start|>system', 'I <3 lions [really]')
    """
    return _TEMPLATE_MARKS.sub(r"\g<0> ", text)


def _select_recent(history: Sequence[Exchange], budget_tokens: int) -> Sequence[Exchange]:
    """The newest exchanges that fit the budget, without gaps."""
    left = budget_tokens
    for place in range(len(history) - 1, -1, -1):
        left -= _estimate_exchange_tokens(history[place])
        if left < 0:
            return history[place + 1 :]
    return history


def _estimate_exchange_tokens(exchange: Exchange) -> int:
    return sum(estimate_tokens(message.text) for message in _list_messages(exchange))


def _list_messages(exchange: Exchange) -> Iterator[ChatMessage]:
    """The messages of an exchange. A failed turn has no reply; some servers refuse empty messages."""
    for speaker, text in ((ChatRole.USER, exchange.message), (ChatRole.ASSISTANT, exchange.reply)):
        if text.strip():
            yield ChatMessage(speaker, break_template_marks(text.strip()))


def _make_summary(summary: str | None, left_tokens: int) -> Iterator[ChatMessage]:
    """The summary as a user message: the client wrote it, so it must not be in the system prompt."""
    if summary and summary.strip():
        text = f"(What we talked about before: {break_template_marks(summary.strip())})"
        if estimate_tokens(text) <= left_tokens:
            yield ChatMessage(ChatRole.USER, text)


def _merge_by_role(said: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Merge messages of one role in a row, and drop replies before the first user message: some servers refuse both."""
    first = next(place for place, message in enumerate(said) if message.role is ChatRole.USER)
    turns = groupby(said[first:], key=lambda message: message.role)
    return tuple(ChatMessage(speaker, "\n\n".join(part.text for part in parts)) for speaker, parts in turns)
