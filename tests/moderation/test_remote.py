"""The second opinion, asked of a scripted local endpoint: it adds to the rules, and its absence takes nothing away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from openapi_server.models.turn import AgeGroup, Moderation
from openapi_server.moderation.input_rules import InputRules
from openapi_server.moderation.remote import BLOCKING_CATEGORIES, ModerationClient, RemoteModerator
from openapi_server.protocols import Verdict
from tests.support.fakes import FakeClock, make_lion

RULES = InputRules.load()


class Endpoint:
    """A moderation endpoint that gives one scripted answer, and remembers what it was asked."""

    def __init__(self, answer: bytes, status: int = 200, *, is_silent: bool = False) -> None:
        self.answer = answer
        self.status = status
        self.is_silent = is_silent
        self.asked: list[dict[str, str]] = []
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/moderations"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()
            await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._serving.add(task)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        self.asked.append(json.loads(await reader.readexactly(length)))
        if self.is_silent:
            await reader.read()
        else:
            writer.write(
                b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (self.status, len(self.answer), self.answer)
            )
            await writer.drain()
        writer.close()
        await writer.wait_closed()


def says(**found: bool) -> bytes:
    """The answer's shape; names are written with two underscores for a slash and one for a dash."""
    names = {name.replace("__", "/").replace("_", "-"): is_found for name, is_found in found.items()}
    return json.dumps({"id": "m", "model": "mod-1", "results": [{"flagged": True, "categories": names}]}).encode()


async def verdict_of(endpoint: Endpoint, message: str, *, times: int = 1) -> Verdict:
    async with endpoint.open(), httpx.AsyncClient() as client:
        second = ModerationClient(client, endpoint.url, "mod-1", FakeClock(), timeout_s=0.2)
        moderator = RemoteModerator(RULES, second)
        for _ in range(times):
            verdict = await moderator.check_message(message, make_lion(), AgeGroup.ELEMENTARY)
    return verdict


@pytest.mark.parametrize(
    ("answer", "category"),
    [
        (says(self_harm=True, violence=True), "distress"),
        (says(sexual__minors=True, sexual=True), "sexual"),
        (says(hate=True), "hate"),
        (says(harassment__threatening=True), "violence"),
        (says(illicit=True, sexual=False), "crime"),
    ],
)
async def test_what_it_finds_is_answered_with_our_words(answer: bytes, category: str) -> None:
    """Its categories become ours, gravest first, with the fixed words of our rules."""
    verdict = await verdict_of(Endpoint(answer), "something that no rule knows")

    assert verdict.moderation == Moderation(flagged=True, categories=(category,))
    assert verdict.safe_words == RULES.find_safe_words(category, make_lion(), AgeGroup.ELEMENTARY)


async def test_hunting_is_marked_and_answered() -> None:
    """Grown-ups' models take it for violence."""
    verdict = await verdict_of(Endpoint(says(violence=True)), "How do you kill a zebra?")

    assert verdict == Verdict(Moderation(flagged=True, categories=("violence",)))


async def test_nothing_found_is_nothing_said() -> None:
    """Most messages."""
    endpoint = Endpoint(says(violence=False))

    assert await verdict_of(endpoint, "How tall are you?") == Verdict()
    assert endpoint.asked == [{"model": "mod-1", "input": "How tall are you?"}]


async def test_it_is_not_asked_what_the_rules_know() -> None:
    """A cry for help is nobody else's to read, and needs no waiting."""
    endpoint = Endpoint(says())
    verdict = await verdict_of(endpoint, "I want to die")

    assert verdict.moderation.categories == ("distress",)
    assert endpoint.asked == []


async def test_personal_data_stays_here() -> None:
    """What leaves the house is masked."""
    endpoint = Endpoint(says())
    await verdict_of(endpoint, "My name is John Doe, mail j.doe@example.com")

    assert endpoint.asked[0]["input"] == "My name is John [surname], mail [e-mail address]"


AWAY = {
    "an error": Endpoint(b'{"error": "I read: my secret"}', 500),
    "no key": Endpoint(b"{}", 401),
    "no JSON": Endpoint(b"<html>"),
    "no UTF-8": Endpoint(b"\xff\xfe\xff"),
    "no results": Endpoint(b'{"results": []}'),
    "a list": Endpoint(b"[]"),
    "null": Endpoint(b"null"),
    "results of another kind": Endpoint(b'{"results": [7]}'),
    "categories of another kind": Endpoint(b'{"results": [{"categories": ["hate"]}]}'),
    "silence": Endpoint(b"", is_silent=True),
}


@pytest.mark.parametrize("endpoint", AWAY.values(), ids=AWAY.keys())
async def test_when_it_is_away_the_rules_alone_decide(endpoint: Endpoint) -> None:
    """The visitor gets an answer, the log a line without a word of anybody's, and the endpoint is left in peace."""
    endpoint.asked.clear()
    with capture_logs() as logs:
        verdict = await verdict_of(endpoint, "my secret", times=3)

    assert verdict == Verdict()
    assert len(endpoint.asked) == 1
    assert [line["event"] for line in logs] == ["moderation_failed", "breaker_opened"]
    assert "secret" not in str(logs)


async def test_when_it_is_not_there_the_rules_alone_decide() -> None:
    """Nobody listens at the address."""
    async with httpx.AsyncClient() as client:
        second = ModerationClient(client, "http://127.0.0.1:1/v1/moderations", "mod-1", FakeClock())
        assert await second.classify("Hello") is None


async def test_it_is_asked_again_after_a_while() -> None:
    """An outage ends."""
    clock, endpoint = FakeClock(), Endpoint(b"", 503)
    async with endpoint.open(), httpx.AsyncClient() as client:
        second = ModerationClient(client, endpoint.url, "mod-1", clock, pause_s=30)
        assert await second.classify("one") is None
        endpoint.status, endpoint.answer = 200, says(hate=True)
        assert await second.classify("two") is None
        clock.advance(31)
        opinion = await second.classify("three")

    assert opinion is not None
    assert opinion.blocking == ("hate",)
    assert [asked["input"] for asked in endpoint.asked] == ["one", "three"]


def test_every_category_of_theirs_has_words_of_ours() -> None:
    """A stop without words would stop nothing."""
    assert all(
        RULES.find_safe_words(category, make_lion(), age_group)
        for category in BLOCKING_CATEGORIES.values()
        for age_group in AgeGroup
    )
