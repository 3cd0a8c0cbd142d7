"""Guardrails, for keepers: the rules, and what they make of a text before a visitor or an animal says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import require_user
from openapi_server.impl.turn_requests import get_active_animal
from openapi_server.models.audit import AuditAction
from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.prompt import Prompt
from openapi_server.models.rule import ListedRule
from openapi_server.models.turn import AgeGroup
from openapi_server.models.user import Role
from openapi_server.moderation.rule_admin import RuleEdit
from openapi_server.moderation.rule_set import RuleSet
from openapi_server.protocols import Moderator, ReplyModerator
from openapi_server.wire.etags import encode_etag, parse_if_match
from openapi_server.wire.rules import decode_rule, encode_field_name, encode_listed_rule, encode_rule

ADDRESS = "/api/v1/guardrails/rules"
PRIVATE = {"Cache-Control": "no-store"}


@async_handler
async def list_rules(context: RequestContext, then: str | None = None, category: str | None = None) -> ASGIApp:
    wanted = {name: value for name, value in (("then", then), ("category", category)) if value is not None}
    rules = [
        rule for rule in await context.services.rule_admin.list_rules() if wanted.items() <= _choices(rule).items()
    ]
    return JSONResponse({"rules": [encode_listed_rule(rule) for rule in rules]}, headers=PRIVATE)


@async_handler
async def get_rule(context: RequestContext, rule_name: str) -> ASGIApp:
    return _shown(await context.services.rule_admin.get_rule(rule_name))


@async_handler
async def put_rule(context: RequestContext, rule_name: str, body: dict[str, Any]) -> ASGIApp:
    if body["name"] != rule_name:
        message = f"must be {rule_name}, as in the address: a rule keeps its name"
        raise InvalidInput(f"name: {message}", errors=(FieldError("name", message),))
    with _wire_names():
        rule, is_new = await context.services.rule_admin.put_rule(_edit_of(context, rule_name), decode_rule(body))
    await record_audit(context, AuditAction.RULE_CHANGED, rule_name)
    return _shown(rule, 201, Location=f"{ADDRESS}/{rule_name}") if is_new else _shown(rule)


@async_handler
async def delete_rule(context: RequestContext, rule_name: str) -> ASGIApp:
    await context.services.rule_admin.delete_rule(_edit_of(context, rule_name))
    await record_audit(context, AuditAction.RULE_CHANGED, rule_name)
    return Response(status_code=204)


@async_handler
async def validate_text(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    animal = await get_active_animal(context, body.get("animalId", context.services.settings.default_animal))
    prompt = Prompt(animal, AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)), "")
    text, is_reply = body["text"], body.get("direction", "message") == "reply"
    rules, moderator, replies = await _asked(context, body.get("rule"))
    tried = _tried_reply(text, prompt, replies) if is_reply else await _tried_message(text, prompt, moderator)
    masked = moderator.mask_pii(text)
    guidance = await moderator.list_guidance(animal, prompt.age_group, masked)
    matched = rules.find_matching_rules(text if is_reply else masked, prompt, is_reply=is_reply)
    return JSONResponse({**tried, "masked": masked, "guidance": list(guidance), "rules": list(matched)})


async def _asked(context: RequestContext, rule: dict[str, Any] | None) -> tuple[RuleSet, Moderator, ReplyModerator]:
    """Those who are asked in a turn; or, with a rule to try, the rules alone, as if it were one of them."""
    services = context.services
    if rule is None:
        return await services.rule_admin.get_rule_set(), services.moderator, services.reply_moderator
    with _wire_names(within="rule."):
        rules = await services.rule_admin.preview_rule(decode_rule(rule))
    return rules, rules.input_rules, rules.output_rules


async def _tried_message(text: str, prompt: Prompt, moderator: Moderator) -> dict[str, object]:
    verdict = await moderator.check_message(moderator.mask_pii(text), prompt.animal, prompt.age_group)
    return _verdict(list(verdict.moderation.categories), verdict.safe_words)


def _tried_reply(text: str, prompt: Prompt, replies: ReplyModerator) -> dict[str, object]:
    category = replies.build_check(prompt)(text)
    words = replies.get_safe_words(prompt.animal, prompt.age_group) if category else None
    return _verdict([category] if category else [], words)


def _verdict(categories: list[str], words: str | None) -> dict[str, object]:
    action = "replace" if words else "allow"
    return {"flagged": bool(categories), "categories": categories, "action": action, "safeWords": words}


def _choices(rule: ListedRule) -> dict[str, object]:
    return {"then": rule.document["then"], "category": rule.document["category"]}


def _edit_of(context: RequestContext, rule_name: str) -> RuleEdit:
    """Who is about to change the rule, and which versions of it they have seen."""
    person, if_match = require_user(context), context.headers.get("if-match")
    return RuleEdit(
        rule_name,
        person.username,
        expected_versions=None if if_match is None else parse_if_match(if_match),
        has_no_condition=if_match is None,
        must_be_new=context.headers.get("if-none-match", "").strip() == "*",
        may_change_binding_rules=person.may_act_as(Role.ADMINISTRATOR),
    )


@contextmanager
def _wire_names(within: str = "") -> Iterator[None]:
    """What is wrong with a rule is named as the caller wrote it."""
    try:
        yield
    except InvalidInput as error:
        named = tuple(FieldError(within + encode_field_name(each.field), each.message) for each in error.errors)
        raise InvalidInput(f"{named[0].field}: {named[0].message}", errors=named) from None


def _shown(rule: ListedRule, status: int = 200, **headers: str) -> ASGIApp:
    """The rule, with the version that it was read from."""
    return JSONResponse(encode_rule(rule.document), status, {**PRIVATE, "ETag": encode_etag(rule.version), **headers})
