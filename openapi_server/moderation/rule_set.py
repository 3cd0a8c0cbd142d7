"""The rules that hold: those of the package, and over them those that keepers wrote. Pure, but for reading the package.

A keepers' rule takes the place of the packaged one with its name, is added where there is none, or switches it off.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from openapi_server.models.animal import Animal
from openapi_server.models.document import Document, VersionedDocument
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.prompt import Prompt
from openapi_server.models.rule import ListedRule
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.input_rules import GUIDANCE_FILE, RULES_FILE, InputRules
from openapi_server.moderation.linear_patterns import KeepersPatternParser
from openapi_server.moderation.output_buffer import BufferLimits
from openapi_server.moderation.output_rules import REPLIES_FILE, OutputRules
from openapi_server.moderation.pii.mask import MaskedText
from openapi_server.moderation.rule_fields import Fields, RuleFileError
from openapi_server.moderation.rule_files import Grammar, in_order, read_rule, read_rules
from openapi_server.moderation.rules import Action, Rule, RuleCollection, Strength
from openapi_server.protocols import DocumentStore, Verdict

MAX_TEXT_CHARS, MAX_LIST_ITEMS, MAX_PRIORITY = 600, 100, 1000
# A match has the borders of words around it, and all of that must fit into what the gate holds back.
MAX_REPLY_MATCH_CHARS = BufferLimits().margin_chars - 4
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PackagedRules:
    """The rules that the server comes with: for messages, for minds, and for replies. No two have one name."""

    messages: RuleCollection
    guidance: RuleCollection
    replies: RuleCollection

    @property
    def rules(self) -> Mapping[str, Rule]:
        return {rule.name: rule for book in (self.messages, self.guidance, self.replies) for rule in book.rules}

    @property
    def documents(self) -> Mapping[str, Document]:
        books = (self.messages, self.guidance, self.replies)
        return {document["name"]: document for book in books for document in book.documents}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All that a turn asks, as the rules were at one moment; and the rules as keepers see them."""

    input_rules: InputRules
    output_rules: OutputRules
    listed_rules: tuple[ListedRule, ...]

    def find_matching_rules(self, text: str, prompt: Prompt, *, is_reply: bool) -> tuple[str, ...]:
        """The names of all rules that find something in the text, the one that counts first."""
        if is_reply:
            return self.output_rules.find_matching_rules(text, prompt)
        return self.input_rules.find_matching_rules(text, prompt.animal, prompt.age_group)


@functools.cache
def load_packaged_rules() -> PackagedRules:
    """Read once: it takes a good part of a second."""
    return PackagedRules(read_rules(RULES_FILE), read_rules(GUIDANCE_FILE), read_rules(REPLIES_FILE))


def parse_keepers_rule(document: Document, packaged: PackagedRules, place: Path = Path("rules")) -> Rule:
    """A rule that keepers wrote; `RuleFileError` names the field that is wrong."""
    name = str(document.get("name"))[:64]
    fields = Fields(place, f"rule {name!r}", document)
    before, written = packaged.rules.get(name), packaged.documents.get(name, {})
    _require_keepers_limits(fields, document, before)
    fields.truth("enabled", True)
    trusted = frozenset((*written.get("patterns", ()), *written.get("anywhere", ())))
    widest = MAX_REPLY_MATCH_CHARS if document.get("then") == Action.WITHHOLD else None
    terms, wordings = packaged.messages.terms, packaged.messages.wordings
    rule = read_rule(fields, Grammar(terms, wordings, KeepersPatternParser(trusted, widest), MAX_TEXT_CHARS))
    return replace(
        rule, is_from_keepers=True, is_additional=before is None or _get_purpose(before) != _get_purpose(rule)
    )


def merge_rules(packaged: PackagedRules, kept: Sequence[VersionedDocument]) -> RuleSet:
    """The rules that hold. A keepers' rule that cannot be read any more is left out, as if nobody had written it."""
    found = {each.document_id: rule for each in kept if (rule := _parse_or_skip(each, packaged)) is not None}
    off = {each.document_id for each in kept if each.document_id in found and not is_enabled(each.document)}
    messages, guidance, replies = (
        _merge_collection(book, found, off, actions)
        for book, actions in (
            (packaged.messages, {Action.WORDS, Action.FLAG, Action.MASK}),
            (packaged.guidance, {Action.GUIDANCE}),
            (packaged.replies, {Action.WITHHOLD}),
        )
    )
    listed = _list_rules(packaged, {each.document_id: each for each in kept if each.document_id in found}, found)
    return RuleSet(InputRules(messages, guidance), OutputRules(replies), listed)


def is_enabled(document: Document) -> bool:
    return document.get("enabled", True) is not False


def is_binding(name: str, packaged: PackagedRules) -> bool:
    """True for a packaged rule that leaves nobody a choice: for distress, danger, tricks and the like."""
    rule = packaged.rules.get(name)
    return rule is not None and rule.strength in (Strength.ALWAYS, Strength.NEVER)


def _merge_collection(
    book: RuleCollection, found: Mapping[str, Rule], off: set[str], actions: set[Action]
) -> RuleCollection:
    packaged = [rule for rule in book.rules if rule.name not in found]
    ours = [rule for name, rule in found.items() if name not in off and rule.action in actions]
    return replace(book, rules=in_order([*packaged, *ours]))


def _parse_or_skip(kept: VersionedDocument, packaged: PackagedRules) -> Rule | None:
    try:
        return parse_keepers_rule(kept.document, packaged)
    except RuleFileError as error:
        log.error("rule_unreadable", rule=kept.document_id, field=error.field, complaint=error.message)
        return None


def _list_rules(
    packaged: PackagedRules, kept: Mapping[str, VersionedDocument], found: Mapping[str, Rule]
) -> tuple[ListedRule, ...]:
    """Those that are switched off, too. The most urgent first, whatever they are for."""
    documents = {**packaged.documents, **{name: each.document for name, each in kept.items()}}
    ordered = in_order({**packaged.rules, **found}.values())
    return tuple(
        ListedRule(rule.name, documents[rule.name], rule.name in packaged.rules, kept.get(rule.name))
        for rule in ordered
    )


def _get_purpose(rule: Rule) -> str:
    """What a rule is for: words and flags stand in one line, of which the first that matches counts."""
    return Action.WORDS if rule.action is Action.FLAG else rule.action


def _require_keepers_limits(fields: Fields, document: Document, before: Rule | None) -> None:
    """What the packaged files need not be asked: no masks, names that can stand in addresses, nothing too long."""
    if document.get("then") == Action.MASK or (before is not None and before.action is Action.MASK):
        raise fields.error("then", "masks come with the server: they are held against many formats of personal data")
    for key, form in (("name", _NAME), ("category", _CATEGORY)):
        if not form.fullmatch(str(document.get(key))):
            raise fields.error(key, f"must match {form.pattern}")
    priority = document.get("priority", 0)
    if isinstance(priority, int) and abs(priority) > MAX_PRIORITY:
        raise fields.error("priority", f"must be at most {MAX_PRIORITY}, above or below 0")
    for key in ("animals", "groups", "patterns", "anywhere"):
        if isinstance(document.get(key), list) and len(document[key]) > MAX_LIST_ITEMS:
            raise fields.error(key, f"must be at most {MAX_LIST_ITEMS}")
    for key, text in _iterate_texts(document):
        if _UNSTORABLE.search(text):
            raise fields.error(key, "must not hold NUL or half a surrogate pair")


def _iterate_texts(document: Document) -> Iterable[tuple[str, str]]:
    for key, value in document.items():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        yield from ((str(key), part) for part in parts if isinstance(part, str))


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
