"""Keeping rules: how keepers change them. Every change is checked as a whole, and kept with who made it.

Nobody is told of it here: a turn asks for news when it begins (`LiveRules.refresh`), in whichever process it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.models.errors import (
    FieldError,
    Forbidden,
    InvalidInput,
    RuleNotFound,
    RulePackaged,
    TooManyRules,
    VersionMismatch,
    VersionRequired,
)
from openapi_server.models.rule import MAX_RULES, ListedRule, RuleChange, RuleDocument, RuleOperation, VersionedRule
from openapi_server.moderation.rule_fields import RuleFileError
from openapi_server.moderation.rule_set import (
    LiveRuleSet,
    RuleSet,
    is_binding,
    is_enabled,
    merge_rules,
    parse_keepers_rule,
)
from openapi_server.protocols import Clock, RuleStore


@dataclass(frozen=True, slots=True)
class RuleEdit:
    """Who wants to change which rule, and which versions of it they have seen.

    `versions` None: whichever is there. `is_blind`: they do not say, which is enough for a new rule. `must_be_new`: it
    shall only be written where there is none. `may_unbind`: they may change packaged rules that bind.
    """

    name: str
    by: str
    expected_versions: frozenset[int] | None = None
    is_blind: bool = False
    must_be_new: bool = False
    may_change_binding_rules: bool = False


class RuleAdmin:
    """`rules` are those of this process, which learn of a change like those of all others."""

    def __init__(self, store: RuleStore, clock: Clock, rules: LiveRuleSet) -> None:
        self.store = store
        self.rules = rules
        self._clock = clock

    async def get_rule_set(self) -> RuleSet:
        await self.rules.refresh()
        return self.rules.current

    async def list_rules(self) -> tuple[ListedRule, ...]:
        return (await self.get_rule_set()).listed_rules

    async def get_rule(self, name: str) -> ListedRule:
        """As it is kept, even where this server cannot read it any more."""
        packaged, kept = self.rules.packaged.documents.get(name), await self.store.get_document(name)
        if kept is not None:
            return ListedRule(name, kept.document, packaged is not None, kept)
        if packaged is None:
            raise RuleNotFound("GET /api/v1/guardrails/rules shows those that there are.")
        return ListedRule(name, packaged, is_packaged=True)

    async def put_rule(self, edit: RuleEdit, document: RuleDocument) -> tuple[ListedRule, bool]:
        """Write the rule; True: there was none of this name."""
        self.validate_document(document)
        self._require_may_unbind(edit, document)
        before = await self._before(edit)
        if before is not None and before.document == document:
            return before, False
        kept = before.stored if before else None
        if kept is None:
            _require_room(len(await self._all()) + 1)
        operation = RuleOperation.REPLACE if before else RuleOperation.CREATE
        written = await self.store.put_document(self._change(edit, operation), kept.version if kept else None, document)
        if written is None:
            raise VersionMismatch
        return ListedRule(edit.name, document, edit.name in self.rules.packaged.documents, written), before is None

    async def delete_rule(self, edit: RuleEdit) -> None:
        """Take the keepers' rule away; where it lay over a packaged one, that holds again."""
        before = await self.get_rule(edit.name)
        if before.stored is None:
            raise RulePackaged('It cannot be deleted. PUT it with "enabled": false, and it is switched off.')
        _require_seen(edit, before)
        if not await self.store.delete_document(self._change(edit, RuleOperation.DELETE), before.version):
            raise VersionMismatch

    async def preview_rule(self, document: RuleDocument) -> RuleSet:
        """The rules as if this one were among them. Nothing is kept."""
        self.validate_document(document)
        await self.rules.refresh()
        name = document["name"]
        trial = VersionedRule(name, 0, document, "", self._clock.now())
        others = [kept for kept in self.rules.keepers_rules if kept.name != name]
        return await asyncio.to_thread(merge_rules, self.rules.packaged, [*others, trial])

    async def import_rules(self, documents: Sequence[RuleDocument], by: str) -> list[tuple[str, RuleOperation | None]]:
        """Let each rule be what its document says, whatever it was; what was done with it, None: it was so already.

        Nothing is taken unless all are right, and there is room for them.
        """
        for document in documents:
            self.validate_document(document)
        names = {kept.name for kept in await self._all()} | {document["name"] for document in documents}
        _require_room(len(names))
        return [(document["name"], await self._import_rule(document, by)) for document in documents]

    async def _import_rule(self, document: RuleDocument, by: str) -> RuleOperation | None:
        while True:
            before = await self.store.get_document(document["name"])
            if before is not None and before.document == document:
                return None
            change = self._change(RuleEdit(document["name"], by), RuleOperation.IMPORT)
            if await self.store.put_document(change, before.version if before else None, document) is not None:
                return RuleOperation.REPLACE if before else RuleOperation.CREATE

    def validate_document(self, document: RuleDocument) -> None:
        """`InvalidInput` says which field of it is wrong."""
        try:
            parse_keepers_rule(document, self.rules.packaged)
        except RuleFileError as error:
            message = f"{error.field}: {error.message}"
            raise InvalidInput(message, errors=(FieldError(error.field, error.message),)) from None

    async def _before(self, edit: RuleEdit) -> ListedRule | None:
        """The rule that is there, at a version that the keeper has seen; None where there is none, nor has to be."""
        try:
            before = await self.get_rule(edit.name)
        except RuleNotFound:
            if not edit.is_blind:
                raise VersionMismatch("There is no such rule (any more).") from None
            return None
        if edit.must_be_new:
            raise VersionMismatch("There is a rule of this name. GET it, and send its ETag as If-Match.")
        _require_seen(edit, before)
        return before

    def _require_may_unbind(self, edit: RuleEdit, document: RuleDocument) -> None:
        if is_binding(edit.name, self.rules.packaged) and not edit.may_change_binding_rules:
            field = "name" if is_enabled(document) else "enabled"
            message = "changes a packaged rule that binds (ALWAYS, NEVER): only an administrator may"
            raise Forbidden(f"{field}: {message}", errors=(FieldError(field, message),))

    async def _all(self) -> tuple[VersionedRule, ...]:
        kept = await self.store.list_changes(0)
        return kept.rules if kept else ()

    def _change(self, edit: RuleEdit, operation: RuleOperation) -> RuleChange:
        return RuleChange(edit.name, operation, edit.by, self._clock.now())


def _require_room(count: int) -> None:
    if count > MAX_RULES:
        raise TooManyRules(f"Keepers may have {MAX_RULES} rules. DELETE one that nobody needs.")


def _require_seen(edit: RuleEdit, before: ListedRule) -> None:
    if edit.is_blind:
        raise VersionRequired("Send If-Match with the ETag that you read last.")
    if edit.expected_versions is not None and before.version not in edit.expected_versions:
        raise VersionMismatch("Read the rule again, and make your change to what it is now.")
