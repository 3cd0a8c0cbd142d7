"""How keepers change guardrail rules. Every change is checked as a whole, and stored with who made it.

Nobody is notified of a change here: every turn asks for changes when it begins (`LiveRuleSet.refresh`), in whichever
process it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from openapi_server.models.errors import (
    FieldError,
    Forbidden,
    InvalidInput,
    RuleBroken,
    RuleNotFound,
    RulePackaged,
    TooManyRules,
    VersionMismatch,
)
from openapi_server.models.rule import MAX_RULES, ListedRule
from openapi_server.models.versioned_document import (
    ChangeKind,
    Document,
    DocumentEdit,
    ImportResult,
    VersionedDocument,
    require_written,
)
from openapi_server.moderation.rule_files import RuleFileError, load_rule_yaml
from openapi_server.moderation.rule_set import (
    LiveRuleSet,
    PackagedRules,
    RuleSet,
    is_binding,
    is_enabled,
    measure_pattern,
    parse_keepers_rule,
)
from openapi_server.moderation.rules import Rule
from openapi_server.protocols import Clock, DocumentStore
from openapi_server.yaml_files import find_item_lines

_WHOLE_FILE = "(the whole file)"
# Instructions of RE2: so many are compiled in a second. 200 rules with 50 keywords each have 540,000.
MAX_PATTERNS_SIZE = 800_000


class RuleAdmin:
    """Reads, tries and changes rules. `rules` are those of this process, which learn of a change like all others."""

    def __init__(self, store: DocumentStore, clock: Clock, rules: LiveRuleSet) -> None:
        self.store = store
        self.rules = rules
        self._clock = clock

    async def get_rule_set(self) -> RuleSet:
        await self.rules.refresh()
        return self.rules.current

    async def list_rules(self) -> tuple[ListedRule, ...]:
        return (await self.get_rule_set()).listed_rules

    async def get_rule(self, name: str) -> ListedRule:
        """As it is stored, even where this server cannot read it any more."""
        packaged, stored = self.rules.packaged.documents.get(name), await self.store.get_document(name)
        if stored is not None:
            return ListedRule(name, stored.document, packaged is not None, stored)
        if packaged is None:
            raise RuleNotFound("GET /api/v1/guardrails/rules shows those that there are.")
        return ListedRule(name, packaged, is_packaged=True)

    async def put_rule(
        self, edit: DocumentEdit, document: Document, *, may_change_binding_rules: bool
    ) -> tuple[ListedRule, bool]:
        """Create or replace the rule; True: it was created. It is compiled here, so that no turn has to wait for it.

        `may_change_binding_rules`: also packaged ones.
        """
        rule = await asyncio.to_thread(self.validate_document, document)
        if not may_change_binding_rules:
            self._require_not_binding(edit.document_id, document)
        await self.rules.refresh()
        self._require_small([rule])
        before = await self._get_expected(edit)
        if before is not None and before.document == document:
            return before, False
        stored = before.stored if before else None
        if stored is None:
            _require_room(len(await self._list_stored()) + 1)
        change = edit.make_change(ChangeKind.REPLACE if before else ChangeKind.CREATE, self._clock.now())
        written = require_written(await self.store.put_document(change, stored.version if stored else None, document))
        await self.rules.refresh()
        is_packaged = edit.document_id in self.rules.packaged.documents
        return ListedRule(edit.document_id, document, is_packaged, written), before is None

    async def delete_rule(self, edit: DocumentEdit) -> None:
        """Delete the keepers' rule; a packaged rule of its name is in force again."""
        before = await self.get_rule(edit.document_id)
        if before.stored is None:
            raise RulePackaged('It cannot be deleted. PUT it with "enabled": false, and it is switched off.')
        _require_expected(edit, before)
        change = edit.make_change(ChangeKind.DELETE, self._clock.now())
        if not await self.store.delete_document(change, before.version):
            raise VersionMismatch

    async def preview_rule(self, document: Document) -> RuleSet:
        """The rules as if this one were among them. Nothing is stored."""
        await asyncio.to_thread(self.validate_document, document)
        await self.rules.refresh()
        name = document["name"]
        preview = VersionedDocument(name, 0, document, "", self._clock.now())
        others = [stored for stored in self.rules.keepers_rules if stored.document_id != name]
        return await asyncio.to_thread(self.rules.merge, [*others, preview])

    async def import_rules(self, documents: Sequence[Document], by: str) -> list[ImportResult]:
        """Create or replace each rule, at whatever version it is.

        Nothing is imported unless all documents are right, and there is room for them.
        """
        await self.rules.refresh()
        names = {stored.document_id for stored in await self._list_stored()}
        _require_room(len(names | {str(document.get("name")) for document in documents}))
        self._require_small(await asyncio.to_thread(self._validate_documents, documents))
        return [await self._import_rule(document, by) for document in documents]

    async def _import_rule(self, document: Document, by: str) -> ImportResult:
        edit = DocumentEdit(document["name"], by)
        while True:
            before = await self.store.get_document(edit.document_id)
            if before is not None and before.document == document:
                return ImportResult(edit.document_id, None)
            change = edit.make_change(ChangeKind.IMPORT, self._clock.now())
            if await self.store.put_document(change, before.version if before else None, document) is not None:
                return ImportResult(edit.document_id, ChangeKind.REPLACE if before else ChangeKind.CREATE)

    def validate_document(self, document: Document) -> Rule:
        """The rule that the document describes. `InvalidInput` says which field of it is wrong."""
        try:
            rule = parse_keepers_rule(document, self.rules.packaged)
        except RuleFileError as error:
            message = f"{error.field}: {error.message}"
            raise InvalidInput(message, errors=(FieldError(error.field, error.message),)) from None
        for field, text in _list_said(document):
            broken = self.rules.current.output_rules.find_broken_rule(text, may_name_contacts=True)
            if broken is not None:
                raise RuleBroken.for_field(field, f"breaks the rule {broken!r}: no animal may say it")
        return rule

    def _validate_documents(self, documents: Sequence[Document]) -> list[Rule]:
        rules, room = [], MAX_PATTERNS_SIZE
        for document in documents:
            try:
                rules.append(self.validate_document(document))
            except InvalidInput as error:
                raise type(error)(f"rule {document.get('name')!r}: {error.detail}", errors=error.errors) from None
            room -= measure_pattern(rules[-1])
            if room < 0:
                # The rest would take as long again, only to be refused.
                raise _make_size_error(rules[-1])
        return rules

    def _require_small(self, rules: Sequence[Rule]) -> None:
        """Refuse rules that make the patterns of all keepers' rules together too large."""
        size = self.rules.measure_patterns(without={rule.name for rule in rules}) + sum(map(measure_pattern, rules))
        if size > MAX_PATTERNS_SIZE:
            raise _make_size_error(max(rules, key=measure_pattern))

    async def _get_expected(self, edit: DocumentEdit) -> ListedRule | None:
        """The current rule, at a version that the keeper has read; None where there is none, nor has to be."""
        try:
            before = await self.get_rule(edit.document_id)
        except RuleNotFound:
            if not edit.has_no_condition:
                raise VersionMismatch("There is no such rule (any more).") from None
            return None
        if edit.must_be_new:
            raise VersionMismatch("There is a rule of this name. GET it, and send its ETag as If-Match.")
        _require_expected(edit, before)
        return before

    def _require_not_binding(self, name: str, document: Document) -> None:
        if is_binding(name, self.rules.packaged):
            field = "name" if is_enabled(document) else "enabled"
            message = "changes a packaged rule that binds (ALWAYS, NEVER): only an administrator may"
            raise Forbidden(f"{field}: {message}", errors=(FieldError(field, message),))

    async def _list_stored(self) -> tuple[VersionedDocument, ...]:
        return (await self.store.list_changes(0)).existing


def _make_size_error(rule: Rule) -> InvalidInput:
    return InvalidInput.for_field("patterns", _explain_size(rule))


def _explain_size(rule: Rule) -> str:
    return (
        f"makes the patterns of all rules together too large (those of {rule.name!r} have {measure_pattern(rule)} of "
        f"{MAX_PATTERNS_SIZE} parts): every message is held against all of them. Use fewer or shorter repetitions"
    )


def _list_said(document: Document) -> Iterator[tuple[str, str]]:
    """The texts of a rule that visitors or models read, by field."""
    words = document.get("words")
    if isinstance(words, dict):
        yield from ((f"words.{age}", text.replace("{animal}", "Leo")) for age, text in words.items() if text)
    if document.get("guidance"):
        yield "guidance", document["guidance"].replace("{animal}", "Leo")


def _require_room(count: int) -> None:
    if count > MAX_RULES:
        raise TooManyRules(f"Keepers may have {MAX_RULES} rules. DELETE one that nobody needs.")


def _require_expected(edit: DocumentEdit, before: ListedRule) -> None:
    edit.require_condition()
    edit.require_expected(before.version, "rule")


def read_rule_list(file: Path, packaged: PackagedRules) -> list[Document]:
    """The keepers' rules of a file, which is a list `rules` as in the packaged files.

    `RuleFileError` names file, line, rule and field of the first error.
    """
    content = load_rule_yaml(file)
    if not isinstance(content, dict):
        raise RuleFileError(file, _WHOLE_FILE, "(all of it)", "must be a mapping")
    documents = content.get("rules")
    # An empty list is what an export writes where keepers have no rules.
    if not isinstance(documents, list):
        raise RuleFileError(file, _WHOLE_FILE, "rules", "must be a list")
    for key in content.keys() - {"rules"}:
        raise RuleFileError(file, _WHOLE_FILE, str(key), "is not a key of this format")
    if len(documents) > MAX_RULES:
        raise RuleFileError(file, _WHOLE_FILE, "rules", f"must hold at most {MAX_RULES} rules, holds {len(documents)}")
    names: set[str] = set()
    size = 0
    for document, line in zip(documents, find_item_lines(file, "rules"), strict=True):
        place = Path(f"{file.name}:{line}")
        rule = _check_listed(document, place, packaged, names)
        names.add(rule.name)
        size += measure_pattern(rule)
        if size > MAX_PATTERNS_SIZE:
            raise RuleFileError(place, f"rule {rule.name!r}", "patterns", _explain_size(rule))
    return documents


def _check_listed(document: object, place: Path, packaged: PackagedRules, names: Set[str]) -> Rule:
    """The rule. No rule before it may have its name."""
    if not isinstance(document, dict):
        raise RuleFileError(place, "rule", "(all of it)", "must be a mapping")
    rule = parse_keepers_rule(document, packaged, place)
    if rule.name in names:
        raise RuleFileError(place, f"rule {rule.name!r}", "name", "is there twice")
    return rule
