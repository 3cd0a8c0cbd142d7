"""Remote moderation with a scripted local endpoint: it adds to the local rules, and its failure takes nothing away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from structlog.testing import capture_logs

from openapi_server.models.turn import AgeGroup, Moderation
from openapi_server.moderation.remote import BLOCKING_CATEGORIES, ModerationClient, RemoteModerator
from openapi_server.protocols import Verdict
from tests.support.fakes import FakeClock, make_lion
from tests.support.rules import load_input_rules

RULES = load_input_rules()


class Endpoint:
    """A moderation endpoint that gives one scripted answer, and records its requests."""

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


def build_answer(**found: bool) -> bytes:
    """An answer in the endpoint's format. Category names have two underscores for a slash and one for a dash."""
    names = {name.replace("__", "/").replace("_", "-"): is_found for name, is_found in found.items()}
    return json.dumps({"id": "m", "model": "mod-1", "results": [{"flagged": True, "categories": names}]}).encode()


async def check(endpoint: Endpoint, message: str, original: str = "", *, times: int = 1) -> Verdict:
    async with endpoint.open(), httpx.AsyncClient() as client:
        remote = ModerationClient(
            client, endpoint.url, "mod-1", FakeClock(), timeout_s=0.2 if endpoint.is_silent else 60
        )
        moderator = RemoteModerator(RULES, remote)
        for _ in range(times):
            verdict = await moderator.check_message(message, make_lion(), AgeGroup.ELEMENTARY, original)
    return replace(verdict, guidance=())


@pytest.mark.parametrize(
    ("answer", "category"),
    [
        (build_answer(self_harm=True, violence=True), "distress"),
        (build_answer(sexual__minors=True, sexual=True), "sexual"),
        (build_answer(hate=True), "hate"),
        (build_answer(harassment__threatening=True), "violence"),
        (build_answer(illicit=True, sexual=False), "crime"),
    ],
)
async def test_a_blocking_category_is_answered_with_the_local_fixed_words(answer: bytes, category: str) -> None:
    """The endpoint's categories become ours, the gravest first."""
    verdict = await check(Endpoint(answer), "something that no rule knows")

    assert verdict.moderation == Moderation(flagged=True, categories=(category,))
    assert verdict.safe_words == RULES.find_safe_words(category, make_lion(), AgeGroup.ELEMENTARY)


async def test_violence_only_flags_the_turn() -> None:
    """The endpoint takes questions about hunting for violence."""
    verdict = await check(Endpoint(build_answer(violence=True)), "How do you kill a zebra?")

    assert verdict == Verdict(Moderation(flagged=True, categories=("violence",)))


async def test_a_message_without_findings_passes() -> None:
    """As most messages do; the endpoint gets the model and the message."""
    endpoint = Endpoint(build_answer(violence=False))

    assert await check(endpoint, "How tall are you?") == Verdict()
    assert endpoint.asked == [{"model": "mod-1", "input": "How tall are you?"}]


async def test_a_message_that_the_local_rules_block_is_not_sent() -> None:
    """A cry for help stays here, and is answered without waiting."""
    endpoint = Endpoint(build_answer())
    verdict = await check(endpoint, "I want to die")

    assert verdict.moderation.categories == ("distress",)
    assert endpoint.asked == []


async def test_personal_data_is_masked_before_it_is_sent() -> None:
    """The endpoint belongs to somebody else."""
    endpoint = Endpoint(build_answer())
    await check(endpoint, "My name is John Doe, mail j.doe@example.com")

    assert endpoint.asked[0]["input"] == "My name is John [surname], mail [e-mail address]"


FAILURES = {
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


@pytest.mark.parametrize("endpoint", FAILURES.values(), ids=FAILURES.keys())
async def test_after_a_failure_the_local_rules_decide_alone(endpoint: Endpoint) -> None:
    """The visitor gets an answer, the log contains nothing of the message, and the endpoint is not called again."""
    endpoint.asked.clear()
    with capture_logs() as logs:
        verdict = await check(endpoint, "my secret", times=3)

    assert verdict == Verdict()
    assert len(endpoint.asked) == 1
    assert [line["event"] for line in logs] == ["moderation_failed", "breaker_opened"]
    assert "secret" not in str(logs)


async def test_an_endpoint_that_refuses_connections_gives_no_verdict() -> None:
    """Nothing listens on the port."""
    async with httpx.AsyncClient() as client:
        remote = ModerationClient(client, "http://127.0.0.1:1/v1/moderations", "mod-1", FakeClock())
        assert await remote.classify("Hello") is None


async def test_the_endpoint_is_called_again_after_the_pause() -> None:
    """An outage ends."""
    clock, endpoint = FakeClock(), Endpoint(b"", 503)
    async with endpoint.open(), httpx.AsyncClient() as client:
        remote = ModerationClient(client, endpoint.url, "mod-1", clock, pause_s=30)
        assert await remote.classify("one") is None
        endpoint.status, endpoint.answer = 200, build_answer(hate=True)
        assert await remote.classify("two") is None
        clock.advance(31)
        verdict = await remote.classify("three")

    assert verdict is not None
    assert verdict.blocking == ("hate",)
    assert [asked["input"] for asked in endpoint.asked] == ["one", "three"]


def test_every_blocking_category_has_fixed_words() -> None:
    """Without words, a blocked message would be answered."""
    assert all(
        RULES.find_safe_words(category, make_lion(), age_group)
        for category in BLOCKING_CATEGORIES.values()
        for age_group in AgeGroup
    )


async def test_our_rules_judge_what_a_mask_took_and_the_endpoint_never_gets_it() -> None:
    endpoint = Endpoint(build_answer())
    verdict = await check(endpoint, "my address is [address]", "my address is I want to die")
    harmless = await check(endpoint, "my address is [address]", "my address is Oak Street 12")

    assert (verdict.moderation.categories, harmless.moderation.categories) == (("distress",), ())
    assert [each["input"] for each in endpoint.asked] == ["my address is [address]"]
