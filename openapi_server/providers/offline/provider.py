"""The offline provider: composes a reply from the keepers' texts, then streams it word by word at reading speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from openapi_server import linear_regex
from openapi_server.instruments import Metrics, NoMetrics, OfflineAnswer
from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import Model, ProviderState, ReplyEnd, WholeReply
from openapi_server.providers.offline.answers import (
    answer_from_facts,
    confirm,
    explain,
    is_from_last_reply,
    repeat_fact,
)
from openapi_server.providers.offline.conversation import Conversation, list_own_names
from openapi_server.providers.offline.intents import Intent, find_other_animal, is_switch_request
from openapi_server.providers.offline.phrasing import (
    LINES,
    Reply,
    add_article,
    fill_placeholders,
    fit_to_age,
    join_parts,
    make_offer,
    maybe_make_offer,
)
from openapi_server.providers.offline.small_talk import SMALL_TALK_HANDLERS
from openapi_server.providers.offline.text import simplify_text
from openapi_server.safe_words import load_safe_words

# Upper bound of a turn's usage, which counts words: those of the prompt with its history, and those of the reply.
MAX_REPLY_WORDS = 1000
# A word with the blanks after it.
_PIECE = linear_regex.compile(r"\S+\s*")


class OfflineProvider:
    """Implements `Provider`. The same seed and prompt give the same reply. `words_per_s` 0: no pauses."""

    def __init__(
        self,
        *,
        words_per_s: float,
        seed: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        metrics: Metrics | None = None,
    ) -> None:
        self._pause_s = 1 / words_per_s if words_per_s > 0 else 0.0
        self._seed = seed
        self._sleep = sleep
        self._metrics = metrics or NoMetrics()

    @property
    def model(self) -> str:
        return "offline-keeper-1"

    def list_models(self) -> Sequence[Model]:
        described = "Speaks in the keepers' own words, word by word; needs neither network nor key."
        return (Model(self.model, "Keepers' voice", described, ("streaming", "offline"), MAX_REPLY_WORDS),)

    def get_model(self, animal: Animal) -> Model:
        return self.list_models()[0]

    def get_state(self) -> ProviderState:
        return ProviderState()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        reply = compose_reply(prompt, self._seed)
        self._metrics.count_offline_answer(_classify_answer(reply))
        pieces = _split_into_pieces(reply.text)
        yield WholeReply("".join(pieces))
        for at, piece in enumerate(pieces):
            if at and self._pause_s and not prompt.is_delivered_whole:
                await self._sleep(self._pause_s)
            yield piece
        # Words; and no prompt, because no model reads one.
        yield ReplyEnd(FinishReason.STOP, Usage(completion_tokens=len(pieces)), reply.fact_ids)


def _split_into_pieces(text: str) -> list[str]:
    words = text.split()
    if " ".join(words) != text:
        return _PIECE.findall(text)
    # Nearly always: there is one blank behind each word.
    return [f"{word} " for word in words[:-1]] + words[-1:]


def _classify_answer(reply: Reply) -> OfflineAnswer:
    if reply.is_unknown:
        return OfflineAnswer.NOT_FOUND
    return OfflineAnswer.FOUND if reply.fact_ids else OfflineAnswer.SMALL_TALK


# --- Composing a reply: the greeting, then the answer to what the message asks for

# Answered with the facts of the prompt; with a line only when there are none.
_FACTS_COME_FIRST = frozenset({Intent.YES, Intent.MORE, Intent.NONSENSE})


def compose_reply(prompt: Prompt, seed: int) -> Reply:
    """The whole reply to the prompt; never empty."""
    chat = Conversation(prompt, seed)
    if not chat.message.has_words:
        return Reply(chat.pick_line(LINES.emoji_only if chat.message.has_emoji else LINES.no_words))
    welcome = _make_welcome(chat)
    if welcome and _only_introduces(chat):
        return Reply(welcome)
    if is_switch_request(simplify_text(prompt.message), list_own_names(chat.animal)):
        return Reply(_make_greeting(chat))
    reply = _answer_message(chat)
    return replace(reply, text=join_parts(_make_short_welcome(chat), reply.text))


def _only_introduces(chat: Conversation) -> bool:
    """True for "hi" and for "I'm Tom and this is my daughter": the message asks for nothing."""
    message = chat.message
    return not message.rest or (message.name is not None and not message.is_question and chat.intent is None)


def _make_welcome(chat: Conversation) -> str:
    """The reply to a message that only greets or introduces the visitor; empty when it does neither."""
    message = chat.message
    if message.name:
        hello = fill_placeholders(chat.pick_line(LINES.nice_to_meet), animal=chat.animal.name)
        return fit_to_age(chat, join_parts(hello, _comment_on_age(chat)), closer=make_offer(chat))
    if message.age:
        return fit_to_age(chat, _comment_on_age(chat), closer=make_offer(chat))
    return _make_greeting(chat) if message.has_greeting or not message.rest else ""


def _make_greeting(chat: Conversation) -> str:
    """One of the animal's own greetings, with its name unless it was said in this session."""
    greetings = chat.animal.voice.greetings
    if chat.has_introduced_itself:
        return chat.pick_line(greetings)
    with_name = [line for line in greetings if chat.animal.name in line]
    greeting = chat.pick_line(with_name if with_name and chat.is_with_preschooler else greetings)
    return greeting if chat.animal.name in greeting else join_parts(greeting, _make_introduction(chat))


def _make_introduction(chat: Conversation) -> str:
    return fill_placeholders(LINES.introduction, animal=chat.animal.name)


def _make_short_welcome(chat: Conversation) -> str:
    """The greeting before an answer; shorter than one that is the whole reply. May be empty."""
    message = chat.message
    introduction = _make_introduction(chat) if _should_introduce(chat) else ""
    if message.name:
        return join_parts(fill_placeholders(LINES.short_nice_to_meet, visitor=message.name), introduction)
    if message.age:
        return join_parts(_comment_on_age(chat), introduction)
    return join_parts(chat.insert_name(LINES.short_greeting) if message.has_greeting else "", introduction)


def _should_introduce(chat: Conversation) -> bool:
    """True at the first greeting, and before the reply to a first remark or errand.

    A question is answered without an introduction; so is a preschooler, who gets three sentences in all.
    """
    message, intent = chat.message, chat.intent
    if chat.has_introduced_itself or chat.is_with_preschooler:
        return False
    is_remark_or_errand = intent is Intent.ERRAND or (
        intent is None and not message.is_question and not chat.prompt.facts
    )
    return message.has_greeting or message.name is not None or (is_remark_or_errand and not chat.history)


def _comment_on_age(chat: Conversation) -> str:
    age = chat.message.age
    return fill_placeholders(chat.pick_line(LINES.visitor_age), Age=age.capitalize()) if age else ""


def _answer_message(chat: Conversation) -> Reply:
    intent = chat.intent
    if intent is Intent.MORE and (requested := _find_last_performance(chat)):
        intent = requested
    if intent is None or (intent in _FACTS_COME_FIRST and chat.prompt.facts):
        return answer_from_facts(chat) if chat.prompt.facts else _answer_without_facts(chat)
    return _HANDLERS[intent](chat) if intent in _HANDLERS else _say_line(chat, intent)


def _answer_lost(chat: Conversation) -> Reply:
    """The safe words that moderation uses for lost children; reached when no moderation rule matched the message."""
    return Reply(load_safe_words()["lost"].get_text(chat.prompt.age_group, chat.animal))


def _find_last_performance(chat: Conversation) -> Intent | None:
    """What "another one!" asks for: a joke or a story, if the last reply contains one."""
    if any(joke in chat.last_reply for joke in chat.animal.voice.jokes):
        return Intent.JOKE
    if any(story in chat.last_reply for story in chat.animal.individual.anecdotes):
        return Intent.STORY
    return None


def _say_line(chat: Conversation, intent: Intent) -> Reply:
    line = chat.pick_line(LINES.by_intent[intent])
    return Reply(line if intent in _NO_OFFER_AFTER else fit_to_age(chat, line, closer=maybe_make_offer(chat, line)))


# An offer would be out of place for a child that is sad, and redundant after "what would you like to know?".
_NO_OFFER_AFTER = frozenset({Intent.SAD, Intent.NO, Intent.YES, Intent.VISIT_INFO, Intent.TOILET})


def _answer_without_facts(chat: Conversation) -> Reply:
    """The reply when no fact was found: refer to another animal, say "I don't know", or acknowledge a remark."""
    other = find_other_animal(chat.message.rest, list_own_names(chat.animal))
    if other and chat.message.is_question:
        line = fill_placeholders(chat.pick_line(LINES.other_animal), an_animal=add_article(other))
        return Reply(fit_to_age(chat, line, closer=make_offer(chat)))
    is_question = chat.message.is_question
    lines = chat.animal.voice.dont_know if is_question else LINES.remark
    return Reply(fit_to_age(chat, chat.pick_line(lines), closer=make_offer(chat)), is_unknown=is_question)


def _answer_why(chat: Conversation) -> Reply:
    if _find_last_performance(chat) is Intent.JOKE:
        return Reply(chat.pick_line(LINES.joke_explanation))
    return explain(chat)


def _answer_really(chat: Conversation) -> Reply:
    return confirm(chat) if chat.prompt.facts else Reply(chat.pick_line(LINES.assurance))


def _answer_again(chat: Conversation) -> Reply:
    facts = chat.prompt.facts
    if facts and is_from_last_reply(chat, facts[0]):
        return repeat_fact(chat, facts[0])
    return Reply(
        join_parts(chat.pick_line(LINES.repetition), chat.last_reply)
        if chat.last_reply
        else chat.pick_line(LINES.no_words)
    )


def _answer_more(chat: Conversation) -> Reply:
    return Reply(fit_to_age(chat, chat.pick_line(LINES.nothing_more), closer=make_offer(chat)))


_HANDLERS: dict[Intent, Callable[[Conversation], Reply]] = {
    **SMALL_TALK_HANDLERS,
    Intent.LOST: _answer_lost,
    Intent.WHY: _answer_why,
    Intent.REALLY: _answer_really,
    Intent.AGAIN: _answer_again,
    Intent.MORE: _answer_more,
}
