"""The rules while the server runs: what keepers change, in whichever process, holds from the next turn on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from openapi_server.models.animal import Animal, Prompt
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.rule import KeptRule
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.admin.rule_set import Packaged, RuleSet, packaged_rules, ruled
from openapi_server.moderation.pii.mask import Masked
from openapi_server.protocols import RuleStore, Verdict

log = structlog.get_logger(__name__)


class LiveRules:
    """`now` is replaced as a whole, in one assignment: no reader sees half of a change."""

    def __init__(self, store: RuleStore, packaged: Packaged | None = None) -> None:
        self._store = store
        self.packaged = packaged or packaged_rules()
        self.kept: tuple[KeptRule, ...] = ()
        self.now: RuleSet = ruled(self.packaged, ())
        self._version = 0
        self._changing = asyncio.Lock()

    async def refresh(self) -> None:
        """Take in what keepers have changed. Never fails: then the rules that were known stay."""
        try:
            if await self._store.news(self._version) is not None:
                await self._take_in()
        except StoreUnavailable:
            log.warning("The store is away: the rules stay as they were")

    async def _take_in(self) -> None:
        """One at a time; whoever waited finds that there is nothing left to do, or the next change."""
        async with self._changing:
            news = await self._store.news(self._version)
            if news is None:
                return
            # Two hundred rules take longer to read than the event loop may wait.
            self.now = await asyncio.to_thread(ruled, self.packaged, news.rules)
            self.kept, self._version = news.rules, news.version


class LiveModerator:
    """`Moderator`: asks for news before a message is checked, which is what every turn begins with."""

    def __init__(self, rules: LiveRules) -> None:
        self._rules = rules

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        await self._rules.refresh()
        return await self._rules.now.moderator.check(message, animal, age_group)

    async def check_earlier(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self._rules.now.moderator.check_earlier(message, animal, age_group)

    async def guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        return await self._rules.now.moderator.guidance(animal, age_group, message)

    def mask(self, text: str) -> Masked:
        return self._rules.now.moderator.mask(text)

    def masked(self, text: str) -> str:
        return self._rules.now.moderator.masked(text)

    def words(self, category: str, animal: Animal, age_group: AgeGroup) -> str | None:
        return self._rules.now.moderator.words(category, animal, age_group)


class LiveReplyRules:
    """`ReplyModerator`: a reply that has begun is checked to its end by the rules that it began with."""

    def __init__(self, rules: LiveRules) -> None:
        self._rules = rules

    def checking(self, prompt: Prompt) -> Callable[[str], str | None]:
        return self._rules.now.replies.checking(prompt)

    def words(self, animal: Animal, age_group: AgeGroup) -> str:
        return self._rules.now.replies.words(animal, age_group)
