"""A second opinion on a visitor's message, from an OpenAI-compatible moderation endpoint.

It can only add to the local rules, which have been asked before. When it is away, slow or talks nonsense, they alone
decide, a line in the log says so, and it is left in peace for a while. Personal data is masked before it is asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
import structlog

from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup, Moderation
from openapi_server.moderation.input_rules import InputRules
from openapi_server.moderation.pii.mask import MaskedText, mask_text
from openapi_server.moderation.rule_set import LiveInputRules
from openapi_server.protocols import Clock, Verdict

log = structlog.get_logger(__name__)

# Their categories, with slashes as they come, and ours. The graver ones first.
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
# Grown-ups' models take "How do you kill a zebra?" for violence: here that is a question, so the turn is only marked.
FLAGGING_CATEGORIES = {"violence": "violence", "violence/graphic": "violence", "harassment": "profanity"}


@dataclass(frozen=True, slots=True)
class RemoteVerdict:
    """Our categories: those that stop an answer, gravest first, and those that only mark the turn."""

    blocking: tuple[str, ...] = ()
    flagging: tuple[str, ...] = ()


class ModerationClient:
    """Asks the endpoint. `url` ends in /moderations; the client brings the key along. Times are in seconds."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        model: str,
        clock: Clock,
        timeout_s: float = 2,
        cooldown_s: float = 30,
    ) -> None:
        self._client = client
        self._url = url
        self._model = model
        self._clock = clock
        self._timeout_s = timeout_s
        self._cooldown_s = cooldown_s
        self._retry_at_s = 0.0

    async def classify(self, message: str) -> RemoteVerdict | None:
        """None when there is no opinion to be had: the local rules alone decide then."""
        if self._clock.monotonic() < self._retry_at_s:
            return None
        body = {"model": self._model, "input": mask_text(message).text}
        try:
            # The client's own timeouts begin anew with every byte.
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(self._url, json=body, timeout=self._timeout_s)
            response.raise_for_status()
            return _parse_verdict(response.json())
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            # ValueError: no JSON; the last four: JSON of another shape. Never its text: it may repeat the message.
            self._retry_at_s = self._clock.monotonic() + self._cooldown_s
            log.warning("second_opinion_away", error=type(error).__name__, pause_s=self._cooldown_s)
            return None


class RemoteModerator:
    """`Moderator`: the local rules, then, about what they let pass, the second opinion."""

    def __init__(self, rules: InputRules | LiveInputRules, client: ModerationClient) -> None:
        self._rules = rules
        self._client = client

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        verdict = await self._rules.check_message(message, animal, age_group)
        if verdict.safe_words is not None:
            return verdict
        opinion = await self._client.classify(message)
        found = opinion.blocking or opinion.flagging if opinion else ()
        if opinion is None or not found:
            return verdict
        words = self._rules.find_safe_words(found[0], animal, age_group) if opinion.blocking else None
        categories = tuple(dict.fromkeys((*verdict.moderation.categories, *found)))
        return Verdict(Moderation(flagged=True, categories=categories), words)

    async def check_earlier_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self._rules.check_message(message, animal, age_group)

    def mask_text(self, text: str) -> MaskedText:
        return self._rules.mask_text(text)

    def mask_pii(self, text: str) -> str:
        return self._rules.mask_pii(text)

    async def list_guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        return await self._rules.list_guidance(animal, age_group, message)


def _parse_verdict(answer: object) -> RemoteVerdict:
    """What the answer says in our words; anything that is no such answer raises."""
    result = answer["results"][0]  # type: ignore[index]  # the caller expects every shape
    found = {name for name, is_found in result["categories"].items() if is_found is True}
    return RemoteVerdict(
        _translate_categories(BLOCKING_CATEGORIES, found), _translate_categories(FLAGGING_CATEGORIES, found)
    )


def _translate_categories(names: dict[str, str], found: set[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ours for theirs, ours in names.items() if theirs in found))
