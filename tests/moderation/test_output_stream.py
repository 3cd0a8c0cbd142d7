"""A mind's speech through the gate: at the gate's own times, and closed when nobody wants it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from openapi_server.models.errors import IdleTimeout, ProviderFailed
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.output_buffer import Blocked, BufferLimits, OutputBuffer
from openapi_server.moderation.output_rules import OutputRules
from openapi_server.moderation.output_stream import stream_checked
from openapi_server.protocols import ReplyEnd, WholeReply
from tests.support.fakes import Fails, Says, Waits, make_lion

RULES = OutputRules.load()
PROMPT = Prompt(make_lion(), AgeGroup.ELEMENTARY, "Hello!")


async def unannounced(
    speech: AsyncGenerator[str | WholeReply | ReplyEnd, None],
) -> AsyncGenerator[str | ReplyEnd, None]:
    """As of a mind that does not know what it will say."""
    async with aclosing(speech):
        async for piece in speech:
            if not isinstance(piece, WholeReply):
                yield piece


async def heard(speech: AsyncGenerator[str | WholeReply | ReplyEnd, None]) -> list[str | ReplyEnd | Blocked]:
    words: list[str | ReplyEnd | Blocked] = []
    await hear(speech, words)
    return words


async def hear(
    speech: AsyncGenerator[str | WholeReply | ReplyEnd, None],
    words: list[str | ReplyEnd | Blocked],
    idle_timeout_s: float = 5,
) -> None:
    """Listen to the end; what was heard before a failure is in `words`."""

    async def say(text: str) -> None:
        words.append(text)

    words.append(await stream_checked(speech, OutputBuffer(RULES.find_violation), idle_timeout_s, say))


async def test_a_speech_comes_through_in_its_pieces() -> None:
    """What is harmless is not changed, and the mind's last word comes last."""
    mind = Says("Roar! ", "I am ", "a lion.")

    assert await heard(unannounced(mind.stream_reply(PROMPT))) == ["Roar!", " ", "I am ", "a lion.", mind.reply_end]


async def test_an_unsafe_speech_ends_in_a_block() -> None:
    """Split in the middle of the word, and with nothing behind it: neither the rest nor the mind's last word comes."""
    mind = Says("Roar! I am nice. You should kill your", "self. ", "Bye. ")

    assert await heard(unannounced(mind.stream_reply(PROMPT))) == ["Roar! I am nice.", Blocked("distress")]


async def test_a_block_closes_the_speech() -> None:
    """Whatever works behind it costs money."""
    mind = Waits("kill yourself. ", "never said")
    mind.go.set()

    assert (await heard(unannounced(mind.stream_reply(PROMPT))))[-1] == Blocked("distress")
    assert mind.was_closed


async def test_a_speech_that_is_known_before_it_begins_is_checked_whole_and_never_waits() -> None:
    """Its pieces come as the mind says them, in the middle of a sentence; one that it did not announce waits."""

    async def reads_out(*pieces: str) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("I walk slowly. ")
        for piece in pieces:
            yield piece
        yield ReplyEnd()

    assert await heard(reads_out("I walk ", "slow", "ly. ")) == ["I walk ", "slow", "ly. ", ReplyEnd()]
    assert await heard(reads_out("I ", "kill your", "self. ")) == ["I ", Blocked("distress")]
    assert await heard(reads_out("I walk slowly. ", "kill your", "self. ")) == ["I walk slowly. ", Blocked("distress")]


async def test_an_unsafe_speech_that_is_announced_is_never_begun() -> None:
    """Not even its harmless beginning is said."""

    async def announces() -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("Roar! You should kill yourself. ")
        yield "Roar! "

    assert await heard(announces()) == [Blocked("distress")]


async def test_leaving_closes_the_speech() -> None:
    """A turn that is stopped stops the mind."""
    mind = Waits()
    listening = asyncio.create_task(heard(unannounced(mind.stream_reply(PROMPT))))
    await asyncio.wait_for(mind.has_begun.wait(), 5)
    listening.cancel()
    await asyncio.wait((listening,))

    assert mind.was_closed


async def test_what_has_waited_too_long_leaves_without_the_end_of_its_sentence() -> None:
    """Nothing more comes from the mind, and still the visitor gets to read."""
    gate = OutputBuffer(RULES.find_violation, BufferLimits(max_wait_ms=20, margin_chars=10))

    async def walks_on() -> AsyncGenerator[str | ReplyEnd, None]:
        yield "I walk slowly through the long dry gr"
        await asyncio.Event().wait()

    said: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.create_task(stream_checked(walks_on(), gate, 5, said.put))
    first = await asyncio.wait_for(said.get(), 5)
    listening.cancel()
    await asyncio.wait((listening,))

    assert first == "I walk slowly through "


async def test_a_timer_that_rings_early_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some loops round to milliseconds: what is not due yet then is asked for again, not forgotten."""
    loop = asyncio.get_running_loop()
    later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *ringing: later(delay / 2, *ringing))

    await test_what_has_waited_too_long_leaves_without_the_end_of_its_sentence()


async def test_a_mind_that_falls_silent_is_not_waited_for() -> None:
    """The engine says so to the visitor; the gate only keeps the time, for it alone sees each piece come."""
    mind = Waits()

    with pytest.raises(IdleTimeout):
        await hear(unannounced(mind.stream_reply(PROMPT)), [], idle_timeout_s=0.02)
    assert mind.was_closed


async def test_a_minds_failure_is_passed_on() -> None:
    """After all that it said before, which was checked, too."""
    mind = Fails(ProviderFailed(), "Roar! I am ", "a lion. And ")
    words: list[str | ReplyEnd | Blocked] = []

    with pytest.raises(ProviderFailed):
        await hear(unannounced(mind.stream_reply(PROMPT)), words)

    assert "".join(map(str, words)) == "Roar! I am a lion. And "
