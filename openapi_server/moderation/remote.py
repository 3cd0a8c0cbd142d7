"""Moderation of visitors' messages by an OpenAI-compatible moderation endpoint, after the local rules.

It can only add to what the local rules find. When it is unavailable, slow, or answers nonsense, the local rules alone
decide, a line in the log says so, and it is not asked again for a while. Personal data is masked before it is asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import httpx
import structlog

from openapi_server.circuit_breaker import CircuitBreaker
from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup, Moderation
from openapi_server.moderation.input_rules import InputRules
from openapi_server.moderation.pii import mask_text
from openapi_server.moderation.rule_set import LiveInputRules
from openapi_server.protocols import Clock, Verdict

log = structlog.get_logger(__name__)

# The endpoint's categories and ours, the gravest first. Messages in these categories are not answered.
BLOCKING_CATEGORIES = {
    "self-harm/intent": "distress",
    "self-harm/instructions": "distress",
    "self-harm": "distress",
    "sexual/minors": "sexual",
    "sexual": "sexual",
    "harassment/threatening": "violence",
    "hate/threatening": "hate",
    "hate": "hate",
    "illicit/violent": "violence",
    "illicit": "crime",
}
# These only flag the turn: the models take "How do you kill a zebra?" for violence, and here it is a question.
FLAGGING_CATEGORIES = {"violence": "violence", "violence/graphic": "violence", "harassment": "profanity"}


@dataclass(frozen=True, slots=True)
class RemoteVerdict:
    """The endpoint's result in our categories, the gravest first."""

    blocking: tuple[str, ...] = ()
    flagging: tuple[str, ...] = ()


class ModerationClient:
    """Calls the endpoint. `url` ends in /moderations; `client` has the API key in its headers.

    After a failure, no request is sent for `pause_s`. There is no retry: the visitor is waiting.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        model: str,
        clock: Clock,
        timeout_s: float = 2,
        pause_s: float = 30,
    ) -> None:
        self._client = client
        self._url = url
        self._model = model
        self._timeout_s = timeout_s
        self._breaker = CircuitBreaker("moderation", clock.monotonic, failure_threshold=1, pause_s=pause_s)

    async def classify(self, message: str) -> RemoteVerdict | None:
        """None when the endpoint gives no verdict."""
        attempt = self._breaker.start_attempt()
        if attempt is None:
            return None
        body = {"model": self._model, "input": mask_text(message).text}
        try:
            # httpx restarts its own timeouts with every byte.
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(self._url, json=body, timeout=self._timeout_s)
            response.raise_for_status()
            verdict = _parse_verdict(response.json())
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            # ValueError: not JSON; the last four: JSON of another shape. The error's text may repeat the message, so
            # it is not logged.
            log.warning("moderation_failed", error=type(error).__name__)
            attempt.record_failure()
            return None
        else:
            attempt.record_success()
            return verdict
        finally:
            attempt.cancel()  # Has no effect after a recorded outcome.


class RemoteModerator:
    """Implements `Moderator`: the local rules first, then the endpoint for what they do not block."""

    def __init__(self, rules: InputRules | LiveInputRules, client: ModerationClient) -> None:
        self._rules = rules
        self._client = client

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        verdict = await self._rules.check_message(message, animal, age_group, original)
        if verdict.safe_words is not None:
            return verdict
        remote = await self._client.classify(message)
        found = remote.blocking or remote.flagging if remote else ()
        if remote is None or not found:
            return verdict
        words = self._rules.find_safe_words(found[0], animal, age_group) if remote.blocking else None
        categories = tuple(dict.fromkeys((*verdict.moderation.categories, *found)))
        return replace(verdict, moderation=Moderation(flagged=True, categories=categories), safe_words=words)

    async def check_earlier_message(
        self, message: str, animal: Animal, age_group: AgeGroup, original: str = ""
    ) -> Verdict:
        return await self._rules.check_message(message, animal, age_group, original)

    def mask_pii(self, text: str) -> str:
        return self._rules.mask_pii(text)

    async def list_guidance(
        self, animal: Animal, age_group: AgeGroup, message: str = "", original: str = ""
    ) -> tuple[str, ...]:
        return await self._rules.list_guidance(animal, age_group, message, original)


def _parse_verdict(answer: object) -> RemoteVerdict:
    """Raises for any other shape than the endpoint's."""
    result = answer["results"][0]  # type: ignore[index]  # the caller handles what a wrong shape raises
    found = {name for name, is_found in result["categories"].items() if is_found is True}
    return RemoteVerdict(
        _translate_categories(BLOCKING_CATEGORIES, found), _translate_categories(FLAGGING_CATEGORIES, found)
    )


def _translate_categories(ours_by_theirs: dict[str, str], found: set[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ours for theirs, ours in ours_by_theirs.items() if theirs in found))
