"""The rules while the server runs: what keepers change, in whichever process, holds from the next turn on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from openapi_server.models.animal import Animal, Prompt
from openapi_server.models.document import VersionedDocument
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.admin.rule_set import PackagedRules, RuleSet, load_packaged_rules, merge_rules
from openapi_server.moderation.pii.mask import MaskedText
from openapi_server.protocols import DocumentStore, Verdict

log = structlog.get_logger(__name__)


class LiveRuleSet:
    """`now` is replaced as a whole, in one assignment: no reader sees half of a change."""

    def __init__(self, store: DocumentStore, packaged: PackagedRules | None = None) -> None:
        self._store = store
        self.packaged = packaged or load_packaged_rules()
        self.keepers_rules: tuple[VersionedDocument, ...] = ()
        self.current: RuleSet = merge_rules(self.packaged, ())
        self._version = 0
        self._refresh_lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Take in what keepers have changed. Never fails: then the rules that were known stay."""
        try:
            if (await self._store.list_changes(self._version)).documents:
                await self._load_changes()
        except StoreUnavailable:
            log.warning("The store is away: the rules stay as they were")

    async def _load_changes(self) -> None:
        """One at a time; whoever waited finds that there is nothing left to do, or the next change."""
        async with self._refresh_lock:
            changes = await self._store.list_changes(self._version)
            if not changes.documents:
                return
            changed = {rule.document_id: rule for rule in self.keepers_rules} | dict(changes.documents)
            rules = tuple(rule for _, rule in sorted(changed.items()) if rule is not None)
            # Two hundred rules take longer to read than the event loop may wait.
            self.current = await asyncio.to_thread(merge_rules, self.packaged, rules)
            self.keepers_rules, self._version = rules, changes.version


class LiveInputRules:
    """`Moderator`: asks for news before a message is checked, which is what every turn begins with."""

    def __init__(self, rules: LiveRuleSet) -> None:
        self._rules = rules

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        await self._rules.refresh()
        return await self._rules.current.input_rules.check_message(message, animal, age_group)

    async def check_earlier_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self._rules.current.input_rules.check_earlier_message(message, animal, age_group)

    async def list_guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        return await self._rules.current.input_rules.list_guidance(animal, age_group, message)

    def mask_text(self, text: str) -> MaskedText:
        return self._rules.current.input_rules.mask_text(text)

    def mask_pii(self, text: str) -> str:
        return self._rules.current.input_rules.mask_pii(text)

    def find_safe_words(self, category: str, animal: Animal, age_group: AgeGroup) -> str | None:
        return self._rules.current.input_rules.find_safe_words(category, animal, age_group)


class LiveOutputRules:
    """`ReplyModerator`: a reply that has begun is checked to its end by the rules that it began with."""

    def __init__(self, rules: LiveRuleSet) -> None:
        self._rules = rules

    def build_check(self, prompt: Prompt) -> Callable[[str], str | None]:
        return self._rules.current.output_rules.build_check(prompt)

    def get_safe_words(self, animal: Animal, age_group: AgeGroup) -> str:
        return self._rules.current.output_rules.get_safe_words(animal, age_group)
