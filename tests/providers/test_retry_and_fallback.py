"""Failures of a model provider: the visitor gets the whole reply of the fallback, or the start of one and a failure.

The first tests are trial F7: every fault of a model server, at every point of its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest
from structlog.testing import capture_logs

from openapi_server.circuit_breaker import CircuitBreaker
from openapi_server.models.errors import ProviderFailed
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import KEEP_ALIVE, KeepAlive, ProviderState, ReplyEnd
from openapi_server.providers.failures import FailureKind, ProviderError, ReplyTooLong, make_error
from openapi_server.providers.retry_and_fallback import MAX_REPLY_CHARACTERS, FallbackProvider, RetryPolicy
from tests.support.fakes import FakeClock, Says, SingleModelProvider
from tests.support.provider_cases import (
    PROVIDER_CASES,
    READ_TIMEOUT_S,
    SPEECH,
    TIMEOUT_S,
    ProviderCase,
    isolate_environment,
    make_prompt,
)
from tests.support.report import Report
from tests.support.scripted_model import PIECES, FaultPoint, ModelAnswer, ModelFault, ScriptedModel
from tests.support.timing import is_within

REPLY = "".join(PIECES)
FALLBACK_REPLY = "I know that by heart. "
RETRIES = 2
# Less than after which boto3 gives up by itself.
FIRST_TOKEN_S = READ_TIMEOUT_S / 8


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_environment(monkeypatch)


class NeverFails(Says):
    """The fallback, which never fails."""

    model = "keeper-1"


class ScriptedModelProvider(SingleModelProvider):
    """A model provider that plays one script for each call, and repeats the last one."""

    model = "scripted-1"

    def __init__(self, *scripts: Sequence[str | KeepAlive | ReplyEnd | Exception]) -> None:
        self.scripts = scripts
        self.asked = 0
        self.closed = 0
        # Kept, so that only the caller closes them.
        self.speeches: list[AsyncGenerator[str | KeepAlive | ReplyEnd, None]] = []

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        self.speeches.append(self._follow())
        return self.speeches[-1]

    async def _follow(self) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        script = self.scripts[min(self.asked, len(self.scripts) - 1)]
        self.asked += 1
        try:
            for step in script:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


class SilentModelProvider(ScriptedModelProvider):
    """Plays its script, and then hangs."""

    async def _follow(self) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        async for piece in super()._follow():
            yield piece
        await asyncio.Event().wait()


class ThinkingModelProvider(ScriptedModelProvider):
    """Pauses before each step of its script, for less than the first text may take."""

    async def _follow(self) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        async for piece in super()._follow():
            await asyncio.sleep(FIRST_TOKEN_S / 4)
            yield piece


class SlowModelProvider(ScriptedModelProvider):
    """Pauses before each step of its script."""

    async def _follow(self) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        async for piece in super()._follow():
            await asyncio.sleep(0.2)
            yield piece


def make_provider(
    upstream: ScriptedModelProvider,
    *,
    clock: FakeClock | None = None,
    failures: int = 100,
    first_token_s: float = FIRST_TOKEN_S,
    retries: int = RETRIES,
    max_first_text_s: float = TIMEOUT_S,
) -> FallbackProvider:
    clock = clock or FakeClock()
    breaker = CircuitBreaker("model", clock.monotonic, failure_threshold=failures, pause_s=30)
    patience = RetryPolicy(first_token_s, retries, max_first_text_s)
    return FallbackProvider(upstream, NeverFails(FALLBACK_REPLY), breaker, patience, clock, jitter=lambda: 0.0)


async def collect_reply(provider: FallbackProvider) -> tuple[str, ReplyEnd | ProviderFailed]:
    """The text, and the end or the failure."""
    text = ""
    try:
        async with aclosing(provider.stream_reply(make_prompt())) as pieces:
            async for piece in pieces:
                if isinstance(piece, ReplyEnd):
                    return text, piece
                assert piece
                text += piece if isinstance(piece, str) else ""
    except ProviderFailed as failure:
        return text, failure
    raise AssertionError("it ended without a word")


def is_from_fallback(ending: ReplyEnd | ProviderFailed) -> bool:
    return isinstance(ending, ReplyEnd) and ending.model == NeverFails.model


# F7, over the wire


@asynccontextmanager
async def open_provider_at(
    kind: ProviderCase, url: str, first_token_s: float = TIMEOUT_S
) -> AsyncIterator[FallbackProvider]:
    clock = FakeClock()
    upstream = kind.make(url, SPEECH)
    breaker = CircuitBreaker("model", clock.monotonic, failure_threshold=100, pause_s=30)
    patience = RetryPolicy(first_token_s, RETRIES)
    provider = FallbackProvider(upstream, NeverFails(FALLBACK_REPLY), breaker, patience, clock, jitter=lambda: 0.0)
    async with asyncio.timeout(2 * TIMEOUT_S):
        yield provider
        await provider.close()


TEXT_POINTS = (FaultPoint.FIRST, FaultPoint.MIDDLE, FaultPoint.LAST)
# What goes wrong, and how often the upstream is asked where nothing was said yet.
FAULT_CASES: list[tuple[ModelAnswer, int]] = [
    *((ModelAnswer(fault=ModelFault.STATUS, status=status), 1) for status in (400, 401)),
    *((ModelAnswer(fault=ModelFault.STATUS, status=status), 1 + RETRIES) for status in (429, 500)),
    (ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="0"), 1 + RETRIES),
    (ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="60"), 1),
    *((ModelAnswer(fault=ModelFault.HANG, at=at), 1) for at in (FaultPoint.CONNECT, FaultPoint.FIRST)),
    *(
        (ModelAnswer(fault=fault, at=at), 1 + RETRIES)
        for fault in (ModelFault.RESET, ModelFault.CUT)
        for at in FaultPoint
    ),
    *(
        (ModelAnswer(fault=fault, at=at), 1 + RETRIES)
        for fault in (ModelFault.BAD_JSON, ModelFault.WRONG_TYPE)
        for at in TEXT_POINTS
    ),
    *(
        (ModelAnswer(fault=fault, at=at), 1 + RETRIES)
        for fault in (ModelFault.ERROR, ModelFault.NO_END)
        for at in TEXT_POINTS
    ),
    *((ModelAnswer(fault=ModelFault.LONG_LINE, at=at), 1 + RETRIES) for at in FaultPoint),
    (ModelAnswer(fault=ModelFault.HTML), 1 + RETRIES),
    (ModelAnswer(pieces=()), 1 + RETRIES),
    (ModelAnswer(pieces=(" ", "\n")), 1 + RETRIES),
    (ModelAnswer(pieces=(), finish=FinishReason.BLOCKED), 1),
]


def name_case(answer: ModelAnswer) -> str:
    if answer.fault is None:
        return f"{len(answer.pieces)} blank pieces, {answer.finish}"
    wait = f", Retry-After {answer.retry_after}" if answer.retry_after else ""
    return f"{answer.status}{wait}" if answer.fault is ModelFault.STATUS else f"{answer.fault} at {answer.at}"


@pytest.mark.parametrize("kind", PROVIDER_CASES.values(), ids=list(PROVIDER_CASES))
@pytest.mark.parametrize(("answer", "times_asked"), FAULT_CASES, ids=[name_case(answer) for answer, _ in FAULT_CASES])
async def test_a_failing_server_ends_in_a_reply_or_a_failure(
    kind: ProviderCase, answer: ModelAnswer, times_asked: int
) -> None:
    """Before the first text the fallback gives the whole reply; after it the turn fails, or a reply too long is cut."""
    first_token_s = FIRST_TOKEN_S if answer.fault is ModelFault.HANG else TIMEOUT_S
    async with (
        ScriptedModel(kind.dialect, [answer]) as upstream,
        open_provider_at(kind, upstream.url, first_token_s) as provider,
    ):
        text, ending = await collect_reply(provider)

    if answer.at in (FaultPoint.MIDDLE, FaultPoint.LAST):
        if answer.fault is ModelFault.LONG_LINE:
            assert isinstance(ending, ReplyEnd)
            assert ending.finish_reason is FinishReason.LENGTH
        else:
            assert isinstance(ending, ProviderFailed)
        assert text
        assert REPLY.startswith(text.rstrip("x"))
        assert len(upstream.requests) == 1
    else:
        assert is_from_fallback(ending)
        assert text == FALLBACK_REPLY
        # On a busy machine the timeout may end before the request was read.
        assert len(upstream.requests) == times_asked or (answer.fault is ModelFault.HANG and not upstream.requests)


@pytest.mark.parametrize("kind", PROVIDER_CASES.values(), ids=list(PROVIDER_CASES))
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"], ids=["refused", "DNS"])
async def test_an_unreachable_server_is_replaced_by_the_fallback(kind: ProviderCase, url: str) -> None:
    """The connection is refused, or the name is unknown."""
    async with open_provider_at(kind, url) as provider:
        text, ending = await collect_reply(provider)

    assert text == FALLBACK_REPLY
    assert is_from_fallback(ending)


@pytest.mark.parametrize("kind", PROVIDER_CASES.values(), ids=list(PROVIDER_CASES))
@pytest.mark.parametrize(
    "fault", [ModelFault.STATUS, ModelFault.RESET, ModelFault.CUT, ModelFault.BAD_JSON, ModelFault.NO_END]
)
async def test_the_next_attempt_may_succeed(kind: ProviderCase, fault: ModelFault) -> None:
    """The visitor does not notice the failed attempt."""
    at = FaultPoint.CONNECT if fault is ModelFault.STATUS else FaultPoint.FIRST
    answers = [ModelAnswer(fault=fault, at=at, status=503), ModelAnswer()]
    async with ScriptedModel(kind.dialect, answers) as upstream, open_provider_at(kind, upstream.url) as provider:
        text, ending = await collect_reply(provider)

    assert text == REPLY
    assert ending == ReplyEnd(FinishReason.STOP, Usage(12, 3), model="scripted-1")
    assert len(upstream.requests) == 2


async def test_a_hang_lasts_no_longer_than_the_timeout(report: Report) -> None:
    """The fallback answers as soon as the first text is overdue."""
    kind = PROVIDER_CASES["openai"]
    async with (
        ScriptedModel(kind.dialect, [ModelAnswer(fault=ModelFault.HANG)]) as upstream,
        open_provider_at(kind, upstream.url, FIRST_TOKEN_S) as provider,
    ):
        began_s = time.monotonic()
        await collect_reply(provider)
        waited_s = time.monotonic() - began_s

    assert waited_s >= FIRST_TOKEN_S
    assert is_within(waited_s, FIRST_TOKEN_S + 2)
    report(f"F7: an upstream that hangs costs {waited_s:.2f} s where the first word may take {FIRST_TOKEN_S} s")


# Attempts


async def test_a_good_reply_passes_unchanged() -> None:
    """The reply passes unchanged, but for white space before its first text."""
    spoken = ReplyEnd(FinishReason.LENGTH, Usage(1, 2), ("lion_001/mane",), "scripted-1")
    upstream = ScriptedModelProvider(["", "\n", "\n Roar", " ", "!\n", spoken])

    assert await collect_reply(make_provider(upstream)) == ("Roar !\n", spoken)
    assert (upstream.asked, upstream.closed) == (1, 1)


@pytest.mark.parametrize("cause", [FailureKind.PERMANENT, FailureKind.REQUEST])
async def test_permanent_failures_are_not_retried(cause: FailureKind) -> None:
    """A wrong key stays wrong."""
    upstream = ScriptedModelProvider([ProviderError(cause)], ["Roar", ReplyEnd()])

    assert is_from_fallback((await collect_reply(make_provider(upstream)))[1])
    assert upstream.asked == 1


async def test_retries_can_be_none() -> None:
    """After the first failure the fallback answers."""
    upstream = ScriptedModelProvider([ProviderError()], ["Roar", ReplyEnd()])

    assert is_from_fallback((await collect_reply(make_provider(upstream, retries=0)))[1])
    assert upstream.asked == 1


async def test_nothing_is_retried_after_the_first_text() -> None:
    """The visitor has read it, so a second start would make no sense."""
    upstream = ScriptedModelProvider(["Roar! I", ProviderError()], ["Roar", ReplyEnd()])

    text, ending = await collect_reply(make_provider(upstream))
    assert text == "Roar! I"
    assert isinstance(ending, ProviderFailed)
    assert (upstream.asked, upstream.closed) == (1, 1)


async def test_what_has_not_left_yet_may_be_said_again() -> None:
    """The beginning of a reply waits until it is clear that it is one."""
    upstream = ScriptedModelProvider(["The visitor", ProviderError()], ["Roar", ReplyEnd()])

    assert (await collect_reply(make_provider(upstream)))[0] == "Roar"
    assert (upstream.asked, upstream.closed) == (2, 2)


async def test_a_reply_without_an_end_is_a_failure() -> None:
    """It may be incomplete."""
    text, ending = await collect_reply(make_provider(ScriptedModelProvider(["Roar! I"])))

    assert text == "Roar! I"
    assert isinstance(ending, ProviderFailed)


@pytest.mark.parametrize(
    "pieces",
    [
        ["Roar! "] * MAX_REPLY_CHARACTERS,
        ["Roar! I", "x" * 10_000_000],
        ["Roar! I", ReplyTooLong()],
        ["Roar! I", "<think>", *["x" * 60_000] * 40],
    ],
    ids=["many", "a long one", "refused by the provider", "endless thoughts"],
)
async def test_a_reply_that_never_ends_is_cut(pieces: list[str | ReplyEnd | Exception]) -> None:
    """It cannot fill the memory, and what came before is a reply. The breaker counts a failure."""
    provider = make_provider(ScriptedModelProvider([*pieces, ReplyEnd()]), failures=1)
    text, ending = await collect_reply(provider)

    assert text.startswith("Roar! ")
    assert len(text) <= MAX_REPLY_CHARACTERS
    assert isinstance(ending, ReplyEnd)
    assert ending.finish_reason is FinishReason.LENGTH
    assert ending.usage.completion_tokens == len(text) // 3
    assert is_from_fallback((await collect_reply(provider))[1])


async def test_a_first_piece_that_is_too_long_is_never_shown() -> None:
    """Nothing was read yet, so the fallback answers."""
    provider = make_provider(ScriptedModelProvider(["x" * (MAX_REPLY_CHARACTERS + 1), ReplyEnd()]))

    assert is_from_fallback((await collect_reply(provider))[1])


async def test_the_waits_between_attempts_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most half a second, then a second, with jitter."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    clock = FakeClock()
    provider = FallbackProvider(
        ScriptedModelProvider([ProviderError()]),
        NeverFails(FALLBACK_REPLY),
        CircuitBreaker("model", clock.monotonic, failure_threshold=100, pause_s=30),
        RetryPolicy(first_token_timeout_s=10, max_retries=3),
        clock,
        jitter=iter([1.0, 1.0, 0.25]).__next__,
    )
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await collect_reply(provider)

    assert waits == [0.5, 1.0, 0.5]


async def test_retry_after_is_honoured() -> None:
    """When it ends before the first-token timeout."""
    upstream = ScriptedModelProvider([ProviderError(retry_after="1")], ["Roar", ReplyEnd()])
    began_s = time.monotonic()

    assert (await collect_reply(make_provider(upstream, first_token_s=5)))[0] == "Roar"
    assert time.monotonic() - began_s >= 1


async def test_a_retry_after_beyond_the_timeout_is_not_waited_for() -> None:
    """The fallback answers at once."""
    upstream = ScriptedModelProvider([ProviderError(retry_after="60")], ["Roar", ReplyEnd()])
    began_s = time.monotonic()

    assert is_from_fallback((await collect_reply(make_provider(upstream, first_token_s=5)))[1])
    assert is_within(time.monotonic() - began_s, 2)


@pytest.mark.parametrize("said", [[], ["", " "], ["Roar"]], ids=["silent", "blank", "speaking"])
async def test_a_visitor_who_leaves_ends_the_call(said: list[str]) -> None:
    """Before and after the first text."""
    upstream = SilentModelProvider(said)
    provider = make_provider(upstream, first_token_s=60)
    listener = asyncio.create_task(collect_reply(provider))
    while not upstream.closed:  # noqa: ASYNC110  # it has said all
        await asyncio.sleep(0)
    listener.cancel()
    await asyncio.wait([listener])

    assert listener.cancelled()
    assert upstream.asked == 1


# The breaker


async def test_a_provider_that_keeps_failing_is_not_called() -> None:
    """The fallback answers without delay, and is announced as the model; after the pause one turn tries again."""
    clock = FakeClock()
    upstream = ScriptedModelProvider(*[[ProviderError()]] * 3, ["Roar", ReplyEnd(model="scripted-1")])
    provider = make_provider(upstream, clock=clock, failures=3)
    assert provider.model == "scripted-1"
    assert [model.model_id for model in provider.list_models()] == ["scripted-1"]

    assert is_from_fallback((await collect_reply(provider))[1])
    assert (provider.model, upstream.asked) == (NeverFails.model, 3)
    assert is_from_fallback((await collect_reply(provider))[1])
    assert upstream.asked == 3

    clock.advance(30)
    assert provider.model == "scripted-1"
    assert (await collect_reply(provider))[0] == "Roar"
    assert provider.model == "scripted-1"


@pytest.mark.parametrize(
    "script",
    [
        [ProviderError()],
        [ProviderError(FailureKind.PERMANENT)],
        ["Roar! I", ProviderError()],
        ["Roar"],
        [ReplyEnd()],
        [],
    ],
    ids=["before", "for good", "in the middle", "without end", "empty", "nothing"],
)
async def test_every_failure_of_the_provider_counts(script: list[str | ReplyEnd | Exception]) -> None:
    """At every point of a reply."""
    provider = make_provider(ScriptedModelProvider(script), failures=1)
    await collect_reply(provider)

    assert provider.model == NeverFails.model


@pytest.mark.parametrize(
    "script",
    [[ProviderError(FailureKind.REQUEST)], [ReplyEnd(FinishReason.BLOCKED)], ["Roar", ReplyEnd(FinishReason.BLOCKED)]],
    ids=["refused prompt", "blocked", "cut"],
)
async def test_one_refused_prompt_does_not_open_the_breaker(script: list[str | ReplyEnd | Exception]) -> None:
    """A refused prompt is no sign of a broken service."""
    provider = make_provider(ScriptedModelProvider(script), failures=1)
    for _ in range(3):
        await collect_reply(provider)

    assert provider.model == "scripted-1"


async def test_silence_before_the_first_text_counts() -> None:
    """Also when visitors would wait longer."""
    provider = make_provider(SilentModelProvider([]), failures=1, first_token_s=0.01)
    assert is_from_fallback((await collect_reply(provider))[1])

    assert provider.model == NeverFails.model


@pytest.mark.parametrize(("silent_s", "is_failure"), [(FIRST_TOKEN_S, True), (FIRST_TOKEN_S / 2, False)])
async def test_a_long_silence_inside_a_reply_counts(silent_s: float, is_failure: bool) -> None:
    """The engine cancels such a turn; a visitor who leaves earlier is no sign of a silence."""
    clock = FakeClock()
    upstream = SilentModelProvider(["Roar! I"])
    provider = make_provider(upstream, clock=clock, failures=1)
    speech = provider.stream_reply(make_prompt())
    await anext(speech)
    waiting = asyncio.ensure_future(anext(speech))
    # It waits from its first step on.
    await asyncio.sleep(0)
    while not upstream.closed:  # noqa: ASYNC110  # it has said all
        await asyncio.sleep(0)
    clock.advance(silent_s)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert (provider.model == NeverFails.model) is is_failure


async def test_a_visitor_who_leaves_while_half_open_lets_the_next_try() -> None:
    """Otherwise the breaker would stay open for ever."""
    clock = FakeClock()
    provider = make_provider(
        ScriptedModelProvider([ProviderError(FailureKind.PERMANENT)], ["Roar! I", " am", ReplyEnd()]),
        clock=clock,
        failures=1,
    )
    await collect_reply(provider)
    clock.advance(30)
    speech = provider.stream_reply(make_prompt())
    assert await anext(speech) == "Roar! I"
    assert provider.model == NeverFails.model
    await speech.aclose()

    assert provider.model == "scripted-1"
    assert (await collect_reply(provider))[0] == "Roar! I am"


async def test_a_refused_prompt_while_half_open_lets_the_next_try() -> None:
    """It says nothing about the service."""
    clock = FakeClock()
    upstream = ScriptedModelProvider(
        [ProviderError(FailureKind.PERMANENT)], [ProviderError(FailureKind.REQUEST)], ["Roar", ReplyEnd()]
    )
    provider = make_provider(upstream, clock=clock, failures=1)
    await collect_reply(provider)
    clock.advance(30)
    assert is_from_fallback((await collect_reply(provider))[1])

    assert provider.model == "scripted-1"
    assert (await collect_reply(provider))[0] == "Roar"


@pytest.mark.parametrize(
    "script", [[ReplyEnd()], ["x" * (MAX_REPLY_CHARACTERS + 1), ReplyEnd()]], ids=["empty", "endless"]
)
async def test_an_attempt_that_is_given_up_is_closed(script: list[str | ReplyEnd | Exception]) -> None:
    """Its connection is closed at once."""
    upstream = ScriptedModelProvider(script)
    await collect_reply(make_provider(upstream))

    assert upstream.closed == upstream.asked == 1 + RETRIES


async def test_a_broken_provider_does_not_hold_the_breaker() -> None:
    """An unexpected error reaches the engine, which handles it."""
    provider = make_provider(ScriptedModelProvider([ZeroDivisionError()]), failures=1)
    with pytest.raises(ZeroDivisionError):
        await collect_reply(provider)

    assert provider.model == "scripted-1"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the key was refused (401)"),
        (403, "the key was refused (403)"),
        (404, "the model or the address is unknown (404)"),
        (429, "too many requests, or the account's quota is used up (429)"),
        (500, "the answer was status 500"),
        (None, "no complete answer came"),
    ],
)
async def test_the_state_is_what_the_last_turn_met(status: int | None, reason: str) -> None:
    """The log says why once, not for every turn, and once that it is over."""
    clock = FakeClock()
    failures = [[make_error("scripted", "Refused", status)] for _ in range(2 * (1 + RETRIES))]
    upstream = ScriptedModelProvider(*failures, ["Roar", ReplyEnd()])
    provider = make_provider(upstream, clock=clock, failures=1000)
    assert provider.get_state() == ProviderState()
    with capture_logs() as lines:
        while provider.get_state().failure is None or upstream.asked < len(failures):
            await collect_reply(provider)
            assert provider.get_state() == ProviderState(clock.now(), reason)
        clock.advance(60)
        await collect_reply(provider)

    assert provider.get_state() == ProviderState(clock.now(), None)
    told = [line for line in lines if line["event"].startswith("provider_") and line["event"] != "provider_failed"]
    assert [(line["event"], line.get("reason")) for line in told] == [("provider_down", reason), ("provider_up", None)]


async def test_a_refused_prompt_says_nothing_about_the_provider() -> None:
    """It may answer the next one."""
    provider = make_provider(ScriptedModelProvider([ProviderError(FailureKind.REQUEST)]))
    await collect_reply(provider)

    assert provider.get_state() == ProviderState()


THINKING: dict[str, list[str | KeepAlive]] = {
    "signs of life": [KEEP_ALIVE] * 8,
    "thoughts in the text": ["<think>", *["hm. "] * 8, "</think>"],
    "thoughts that wait": ["The visitor asks. ", *["hm. "] * 8, "</think>"],
    "half a sentence": ["Lions ", *["sleep "] * 8],
}


@pytest.mark.parametrize("script", THINKING.values(), ids=list(THINKING))
async def test_a_model_that_is_known_to_work_is_not_silent(script: list[str | KeepAlive]) -> None:
    """It may take longer than the timeout for the first text, which is one for silence."""
    upstream = ThinkingModelProvider([*script, "I am Leo.", ReplyEnd(model="scripted-1")])
    text, ending = await collect_reply(make_provider(upstream))

    assert text.endswith("I am Leo.")
    assert not is_from_fallback(ending)
    assert upstream.asked == 1


async def test_thinking_has_an_end() -> None:
    """The fallback answers in the time that the turn has left."""
    upstream = ThinkingModelProvider([KEEP_ALIVE] * 100)
    text, ending = await collect_reply(make_provider(upstream, max_first_text_s=FIRST_TOKEN_S * 2))

    assert (text, is_from_fallback(ending), upstream.asked) == (FALLBACK_REPLY, True, 1)


BLANK = [" ", "\n", "\t", "\r\n", "\u200b", "\u3164", "\ufeff\n", "\u2028", "\x1b"]


@pytest.mark.parametrize("blank", BLANK, ids=ascii)
async def test_blanks_are_silence(blank: str) -> None:
    """A model that sends them forever is given up as soon as one that sends nothing."""
    upstream = ThinkingModelProvider([blank] * 100)
    text, ending = await collect_reply(make_provider(upstream))

    assert (text, is_from_fallback(ending), upstream.asked) == (FALLBACK_REPLY, True, 1)
    assert upstream.closed == 1


async def test_blanks_behind_text_are_silence() -> None:
    """The engine ends the turn as one whose model has stopped."""
    upstream = ScriptedModelProvider(["Roar! I", " ", "\n", "\u200b", KEEP_ALIVE, "am Leo.", ReplyEnd()])
    pieces = [piece async for piece in make_provider(upstream).stream_reply(make_prompt())]

    assert pieces == ["Roar! I", KEEP_ALIVE, " \nam Leo.", ReplyEnd()]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_fallback_that_comes_late_is_not_paced(waits: bool) -> None:
    """The turn may end before its last word."""
    upstream = ThinkingModelProvider([KEEP_ALIVE] * 100) if waits else ScriptedModelProvider([ProviderError()])
    fallback = NeverFails(FALLBACK_REPLY)
    breaker = CircuitBreaker("model", FakeClock().monotonic, failure_threshold=100, pause_s=30)
    patience = RetryPolicy(FIRST_TOKEN_S, 0, FIRST_TOKEN_S if waits else TIMEOUT_S)
    await collect_reply(FallbackProvider(upstream, fallback, breaker, patience, FakeClock()))

    assert [prompt.is_delivered_whole for prompt in fallback.prompts] == [waits]


async def test_signs_of_life_are_passed_on() -> None:
    """The engine, too, ends a turn after a silence."""
    upstream = ScriptedModelProvider([KEEP_ALIVE, "<think>plan</think>", "Roar! I", KEEP_ALIVE, " am Leo.", ReplyEnd()])
    pieces = [piece async for piece in make_provider(upstream).stream_reply(make_prompt())]

    assert pieces == [KEEP_ALIVE, KEEP_ALIVE, "Roar! I", KEEP_ALIVE, " am Leo.", ReplyEnd()]


async def test_a_reply_that_is_cut_ends_the_request() -> None:
    """What the model goes on to write as another speaker costs money. The usage is estimated."""
    upstream = ScriptedModelProvider(["Leo: I am Leo.", "\nVisitor: ", *["How old? "] * 10_000])
    text, ending = await collect_reply(make_provider(upstream))

    assert text == "I am Leo."
    assert isinstance(ending, ReplyEnd)
    assert (ending.finish_reason, ending.model) == (FinishReason.STOP, "scripted-1")
    assert ending.usage.prompt_tokens > 0
    assert ending.usage.completion_tokens == 2
    assert upstream.closed == 1


async def test_a_reply_that_is_cut_at_its_end_has_the_real_usage() -> None:
    spoken = ReplyEnd(FinishReason.STOP, Usage(7, 8), model="scripted-1")
    upstream = ScriptedModelProvider(["I am Leo.</s>", spoken])

    assert await collect_reply(make_provider(upstream)) == ("I am Leo.", spoken)


@pytest.mark.parametrize("thought", ["<think>I am Leo.", "Visitor: Who are you?", '{"mood": "happy"}'])
async def test_a_reply_of_which_nothing_is_left_is_retried(thought: str) -> None:
    """As an empty one."""
    upstream = ScriptedModelProvider([thought, ReplyEnd()], ["Roar", ReplyEnd()])

    assert (await collect_reply(make_provider(upstream)))[0] == "Roar"


async def test_a_model_that_begins_in_thought_is_remembered_until_it_does_not() -> None:
    """Its later thoughts are not said even where they read like a reply."""
    thought = "I am a lion! You are a child! "
    upstream = ScriptedModelProvider(
        ["The visitor asks.</think>Roar", ReplyEnd()],
        [thought, "</think>Roar", ReplyEnd()],
        [thought, ReplyEnd()],
        ["Roar! I", ReplyEnd()],
    )
    provider = make_provider(upstream)
    said = [(await collect_reply(provider))[0] for _ in range(3)]
    speech = provider.stream_reply(make_prompt())
    first = await anext(speech)
    await speech.aclose()

    assert said == ["Roar", "Roar", thought]
    assert first == "Roar! I"


THINKERS = [
    *("deepseek-r1", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-r1:8b", "us.deepseek.r1-v1:0", "qwq:32b"),
    *("Qwen/Qwen3-30B-A3B-Thinking-2507", "EXAONE-Deep-7.8B", "THUDM/GLM-Z1-9B"),
]
OTHERS = ["gpt-4o", "qwen3:8b", "llama-3.3-70b", "deepseek-chat", "claude-sonnet-4", "scripted-1", "mistral-7b-r12"]


@pytest.mark.parametrize("model", THINKERS)
async def test_the_first_thought_of_a_model_that_is_known_by_its_name_is_not_said(model: str) -> None:
    """Its template has the opening mark, and its thought reads like a reply."""
    upstream = ScriptedModelProvider(["I am a lion! You are a child! ", "</think>", "Roar", ReplyEnd()])
    upstream.model = model

    assert (await collect_reply(make_provider(upstream)))[0] == "Roar"


@pytest.mark.parametrize("model", [*OTHERS, *THINKERS])
async def test_a_model_that_is_said_to_think_and_does_not_waits_once(model: str) -> None:
    """Its server may keep the thoughts to itself. Replies of other models never wait."""
    upstream = ScriptedModelProvider(["I am Leo! ", "Roar! ", ReplyEnd()])
    upstream.model = model
    provider = make_provider(upstream)
    firsts: list[object] = []
    for _ in range(2):
        async with aclosing(provider.stream_reply(make_prompt())) as pieces:
            said = [piece async for piece in pieces if not isinstance(piece, ReplyEnd)]
        firsts.append(said[0])

    assert firsts == [KEEP_ALIVE if model in THINKERS else "I am Leo!", "I am Leo!"]


async def test_a_whole_sentence_leaves_while_the_model_is_slow() -> None:
    """It need not be known whether it is a thought; what comes behind it leaves at once."""
    upstream = SilentModelProvider(["Lions ", "sleep. ", KEEP_ALIVE])
    async with (
        asyncio.timeout(TIMEOUT_S),
        aclosing(make_provider(upstream, first_token_s=TIMEOUT_S).stream_reply(make_prompt())) as pieces,
    ):
        first = await anext(piece async for piece in pieces if isinstance(piece, str))

    assert first == "Lions sleep."


async def test_short_sentences_are_no_silence() -> None:
    """Together they take longer than the first text may."""
    sentences = [f"W{number}. " for number in range(1, 13)]
    upstream = SlowModelProvider([*sentences, ReplyEnd()])
    text, end = await collect_reply(make_provider(upstream, first_token_s=2, max_first_text_s=0))

    assert text == "".join(sentences)
    assert not is_from_fallback(end)


async def test_a_fast_thought_without_its_mark_is_not_shown() -> None:
    """Its sentences wait for the next ones."""
    script: list[str | ReplyEnd] = ["Lions ", "sleep. ", "That is ", "all. ", "</think>", "I am Leo.", ReplyEnd()]

    assert (await collect_reply(make_provider(ScriptedModelProvider(script))))[0] == "I am Leo."


@pytest.mark.parametrize("part", ["Leo: ", "```\n", "<think>", '{"a":"', "a. "])
async def test_others_have_their_turn_while_a_long_piece_is_cleaned(part: str) -> None:
    """The longest reply in one piece is cleaned in parts."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    text = part * (MAX_REPLY_CHARACTERS // len(part))
    counting = asyncio.create_task(count_turns())
    await collect_reply(make_provider(ScriptedModelProvider([text, ReplyEnd()]), retries=0, first_token_s=TIMEOUT_S))
    counting.cancel()

    assert turns > len(text) / 1_000
