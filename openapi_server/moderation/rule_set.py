"""The rules in force: the packaged ones with those that keepers wrote, refreshed while the server runs.

A keepers' rule replaces the packaged one with its name, is added where there is none, or switches it off.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import structlog

from openapi_server.models.animal import Animal
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.prompt import Prompt
from openapi_server.models.rule import ListedRule
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import Document, VersionedDocument
from openapi_server.moderation.input_rules import GUIDANCE_FILE, INPUT_RULES_FILE, InputRules
from openapi_server.moderation.keeper_patterns import AnyPattern, KeepersPatternParser
from openapi_server.moderation.output_buffer import BufferLimits, TextCheck
from openapi_server.moderation.output_rules import OUTPUT_RULES_FILE, OutputRules
from openapi_server.moderation.rule_files import (
    MASKS_ARE_PACKAGED,
    Grammar,
    RuleFileError,
    make_rule,
    read_rules,
    sort_rules,
    validate_keepers_rule,
)
from openapi_server.moderation.rules import Action, Rule, RuleCollection, Strength
from openapi_server.protocols import DocumentStore, Verdict

# A match and the word borders around it must fit into the margin of the output buffer.
MAX_REPLY_MATCH_CHARS = BufferLimits().margin_chars - 4

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PackagedRules:
    """The rules that the server comes with: for messages, for models (guidance), and for replies. Names are unique."""

    messages: RuleCollection
    guidance: RuleCollection
    replies: RuleCollection

    @property
    def rules(self) -> Mapping[str, Rule]:
        return {rule.name: rule for rules in (self.messages, self.guidance, self.replies) for rule in rules.rules}

    @property
    def documents(self) -> Mapping[str, Document]:
        collections = (self.messages, self.guidance, self.replies)
        return {document["name"]: document for rules in collections for document in rules.documents}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules at one moment. `listed_rules`: as keepers see them."""

    input_rules: InputRules
    output_rules: OutputRules
    listed_rules: tuple[ListedRule, ...]

    def find_matching_rules(self, text: str, prompt: Prompt, *, is_reply: bool, original: str = "") -> tuple[str, ...]:
        """The names of all rules that match the text, the one that takes effect first.

        `original`: a masked message as the visitor wrote it.
        """
        if is_reply:
            return self.output_rules.find_matching_rules(text, prompt)
        return self.input_rules.find_matching_rules(text, prompt.animal, prompt.age_group, original)


@functools.cache
def load_packaged_rules() -> PackagedRules:
    """Cached: reading them takes a good part of a second."""
    return PackagedRules(read_rules(INPUT_RULES_FILE), read_rules(GUIDANCE_FILE), read_rules(OUTPUT_RULES_FILE))


@functools.cache
def load_packaged_rule_set() -> RuleSet:
    """The rules in force where keepers have none."""
    return merge_rules(load_packaged_rules(), ())


def parse_keepers_rule(
    document: Document, packaged: PackagedRules, place: Path = Path("rules"), *, is_stored: bool = False
) -> Rule:
    """The rule of a keepers' document. `RuleFileError` names the field that is wrong."""
    name = str(document.get("name"))
    before, written = packaged.rules.get(name), packaged.documents.get(name, {})
    source = validate_keepers_rule(document, place, is_stored=is_stored)
    if before is not None and before.action is Action.MASK:
        raise source.make_error("then", MASKS_ARE_PACKAGED)
    trusted = frozenset((*written.get("patterns", ()), *written.get("anywhere", ())))
    max_match_chars = MAX_REPLY_MATCH_CHARS if source.document.then is Action.WITHHOLD else None
    parse_pattern = KeepersPatternParser(trusted, max_match_chars)
    rule = make_rule(source, Grammar(packaged.messages.terms, packaged.messages.wordings, parse_pattern))
    is_additional = before is None or _get_purpose(before) != _get_purpose(rule)
    return replace(rule, is_from_keepers=True, is_additional=is_additional)


def measure_pattern(rule: Rule) -> int:
    """The size of a rule's patterns; 0 for a packaged rule."""
    return rule.pattern.size if isinstance(rule.pattern, AnyPattern) else 0


ParsedRules = Mapping[str, tuple[Document, Rule | None]]
"""By name: a keepers' document, and the rule that it describes; None for one that this server cannot read."""


def parse_rules(
    packaged: PackagedRules, versioned: Sequence[VersionedDocument], known: ParsedRules = MappingProxyType({})
) -> ParsedRules:
    """Parse the documents that are not known: compiling the patterns of one takes milliseconds.

    A rule that this server cannot read is logged.
    """
    return {
        each.document_id: known[each.document_id]
        if known.get(each.document_id, (None, None))[0] == each.document
        else (each.document, _parse_or_skip(each, packaged))
        for each in versioned
    }


def merge_rules(
    packaged: PackagedRules, versioned: Sequence[VersionedDocument], known: ParsedRules = MappingProxyType({})
) -> RuleSet:
    """The rules in force. A keepers' rule that this server cannot read is left out."""
    rules = {name: rule for name, (_, rule) in parse_rules(packaged, versioned, known).items() if rule is not None}
    disabled = {each.document_id for each in versioned if each.document_id in rules and not is_enabled(each.document)}
    messages, guidance, replies = (
        _merge_collection(collection, rules, disabled, actions)
        for collection, actions in (
            (packaged.messages, {Action.WORDS, Action.FLAG, Action.MASK}),
            (packaged.guidance, {Action.GUIDANCE}),
            (packaged.replies, {Action.WITHHOLD}),
        )
    )
    listed = _list_rules(packaged, {each.document_id: each for each in versioned if each.document_id in rules}, rules)
    return RuleSet(InputRules(messages, guidance), OutputRules(replies), listed)


def is_enabled(document: Document) -> bool:
    return document.get("enabled", True) is not False


def is_binding(name: str, packaged: PackagedRules) -> bool:
    """True for a packaged rule that is ALWAYS or NEVER: for distress, danger, prompt injection and the like."""
    rule = packaged.rules.get(name)
    return rule is not None and rule.strength in (Strength.ALWAYS, Strength.NEVER)


def _merge_collection(
    collection: RuleCollection, parsed: Mapping[str, Rule], disabled: set[str], actions: set[Action]
) -> RuleCollection:
    packaged = [rule for rule in collection.rules if rule.name not in parsed]
    added = [rule for name, rule in parsed.items() if name not in disabled and rule.action in actions]
    return replace(collection, rules=sort_rules([*packaged, *added]))


def _parse_or_skip(versioned: VersionedDocument, packaged: PackagedRules) -> Rule | None:
    try:
        return parse_keepers_rule(versioned.document, packaged, is_stored=True)
    except RuleFileError as error:
        log.error("rule_unreadable", rule=versioned.document_id, field=error.field, complaint=error.message)
        return None


def _list_rules(
    packaged: PackagedRules, versioned: Mapping[str, VersionedDocument], parsed: Mapping[str, Rule]
) -> tuple[ListedRule, ...]:
    """All rules, also those that are switched off, the most urgent first."""
    documents = {**packaged.documents, **{name: each.document for name, each in versioned.items()}}
    ordered = sort_rules({**packaged.rules, **parsed}.values())
    return tuple(
        ListedRule(rule.name, documents[rule.name], rule.name in packaged.rules, versioned.get(rule.name))
        for rule in ordered
    )


def _get_purpose(rule: Rule) -> str:
    """The action; `flag` counts as `words`, because of both kinds together the first rule that matches wins."""
    return Action.WORDS if rule.action is Action.FLAG else rule.action


class LiveRuleSet:
    """The rules in force, refreshed from the store. `current` is replaced in one assignment, so it is consistent."""

    def __init__(self, store: DocumentStore, packaged: PackagedRules | None = None) -> None:
        self._store = store
        self.packaged = packaged or load_packaged_rules()
        self.keepers_rules: tuple[VersionedDocument, ...] = ()
        self.current: RuleSet = merge_rules(packaged, ()) if packaged else load_packaged_rule_set()
        self._parsed: ParsedRules = {}
        self._version = 0
        self._refresh_lock = asyncio.Lock()

    def merge(self, rules: Sequence[VersionedDocument]) -> RuleSet:
        """The packaged rules with these of keepers. It takes too long for the event loop."""
        return merge_rules(self.packaged, rules, self._parsed)

    def measure_patterns(self, without: Set[str]) -> int:
        """The size of the patterns of all keepers' rules but those with these names."""
        return sum(measure_pattern(rule) for name, (_, rule) in self._parsed.items() if rule and name not in without)

    def prepare(self) -> None:
        """What the first message would wait for; for a thread."""
        self.current.input_rules.prepare()

    async def refresh(self) -> None:
        """Load what keepers have changed, in whichever process. Never fails: without the store, the rules stay."""
        try:
            if (await self._store.list_changes(self._version)).documents:
                await self._load_changes()
        except StoreUnavailable:
            log.warning("The store is unavailable: the rules stay as they were")

    async def _load_changes(self) -> None:
        """One caller at a time; one that has waited finds no changes left, or the next ones."""
        async with self._refresh_lock:
            changes = await self._store.list_changes(self._version)
            if not changes.documents:
                return
            changed = {rule.document_id: rule for rule in self.keepers_rules} | dict(changes.documents)
            rules = tuple(rule for _, rule in sorted(changed.items()) if rule is not None)
            self._parsed = await asyncio.to_thread(parse_rules, self.packaged, rules, self._parsed)
            current = await asyncio.to_thread(self.merge, rules)
            await asyncio.to_thread(current.input_rules.prepare)
            self.current = current
            self.keepers_rules, self._version = rules, changes.version


class LiveInputRules:
    """Implements `Moderator`. Refreshes the rules before it checks a message, that is at the start of every turn."""

    def __init__(self, rules: LiveRuleSet) -> None:
        self._rules = rules

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        await self._rules.refresh()
        return await self._rules.current.input_rules.check_message(message, animal, age_group, original)

    async def check_earlier_message(
        self, message: str, animal: Animal, age_group: AgeGroup, original: str = ""
    ) -> Verdict:
        return await self._rules.current.input_rules.check_earlier_message(message, animal, age_group, original)

    async def list_guidance(
        self, animal: Animal, age_group: AgeGroup, message: str = "", original: str = ""
    ) -> tuple[str, ...]:
        return await self._rules.current.input_rules.list_guidance(animal, age_group, message, original)

    def mask_pii(self, text: str) -> str:
        return self._rules.current.input_rules.mask_pii(text)

    def find_safe_words(self, category: str, animal: Animal, age_group: AgeGroup) -> str | None:
        return self._rules.current.input_rules.find_safe_words(category, animal, age_group)


class LiveOutputRules:
    """Implements `ReplyModerator`. A reply is checked to its end by the rules that were in force when it began."""

    def __init__(self, rules: LiveRuleSet) -> None:
        self._rules = rules

    def build_check(self, prompt: Prompt) -> TextCheck:
        return self._rules.current.output_rules.build_check(prompt)

    def find_broken_rule(self, text: str, animal: Animal) -> str | None:
        """The name of the rule that words of this animal's keepers break."""
        return self._rules.current.output_rules.find_broken_rule(text, animal)

    def get_safe_words(self, animal: Animal, age_group: AgeGroup) -> str:
        return self._rules.current.output_rules.get_safe_words(animal, age_group)
