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
from openapi_server.moderation.admin.live_rules import LiveModerator
from openapi_server.moderation.input_rules import RuleModerator
from openapi_server.moderation.pii.mask import Masked, mask
from openapi_server.protocols import Clock, Verdict

log = structlog.get_logger(__name__)

# Their categories, with slashes as they come, and ours. The graver ones first.
STOPS = {
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
MARKS = {"violence": "violence", "violence/graphic": "violence", "harassment": "profanity"}


@dataclass(frozen=True, slots=True)
class Opinion:
    """Our categories: those that stop an answer, gravest first, and those that only mark the turn."""

    stops: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


class SecondOpinion:
    """Asks the endpoint. `url` ends in /moderations; the client brings the key along. Times are in seconds."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, model: str, clock: Clock, timeout_s: float = 2, pause_s: float = 30
    ) -> None:
        self._client = client
        self._url = url
        self._model = model
        self._clock = clock
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._asks_again_s = 0.0

    async def ask(self, message: str) -> Opinion | None:
        """None when there is no opinion to be had: the local rules alone decide then."""
        if self._clock.monotonic() < self._asks_again_s:
            return None
        body = {"model": self._model, "input": mask(message).text}
        try:
            # The client's own timeouts begin anew with every byte.
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(self._url, json=body, timeout=self._timeout_s)
            response.raise_for_status()
            return _opinion(response.json())
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            # ValueError: no JSON; the last four: JSON of another shape. Never its text: it may repeat the message.
            self._asks_again_s = self._clock.monotonic() + self._pause_s
            log.warning("second_opinion_away", error=type(error).__name__, pause_s=self._pause_s)
            return None


class CarefulModerator:
    """`Moderator`: the local rules, then, about what they let pass, the second opinion."""

    def __init__(self, rules: RuleModerator | LiveModerator, second: SecondOpinion) -> None:
        self._rules = rules
        self._second = second

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        verdict = await self._rules.check(message, animal, age_group)
        if verdict.safe_words is not None:
            return verdict
        opinion = await self._second.ask(message)
        found = opinion.stops or opinion.marks if opinion else ()
        if opinion is None or not found:
            return verdict
        words = self._rules.words(found[0], animal, age_group) if opinion.stops else None
        categories = tuple(dict.fromkeys((*verdict.moderation.categories, *found)))
        return Verdict(Moderation(flagged=True, categories=categories), words)

    async def check_earlier(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self._rules.check(message, animal, age_group)

    def mask(self, text: str) -> Masked:
        return self._rules.mask(text)

    def masked(self, text: str) -> str:
        return self._rules.masked(text)

    async def guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        return await self._rules.guidance(animal, age_group, message)


def _opinion(answer: object) -> Opinion:
    """What the answer says in our words; anything that is no such answer raises."""
    result = answer["results"][0]  # type: ignore[index]  # the caller expects every shape
    found = {name for name, is_found in result["categories"].items() if is_found is True}
    return Opinion(_ours(STOPS, found), _ours(MARKS, found))


def _ours(names: dict[str, str], found: set[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ours for theirs, ours in names.items() if theirs in found))
