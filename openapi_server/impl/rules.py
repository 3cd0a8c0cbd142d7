"""Keepers' operations on guardrail rules, and trying a text on the rules."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import require_user
from openapi_server.http.conditional_requests import respond_with_version
from openapi_server.impl.document_edits import name_fields_as_sent, read_edit, require_same_id
from openapi_server.impl.turn_requests import get_active_animal
from openapi_server.models.audit import AuditAction
from openapi_server.models.prompt import Prompt
from openapi_server.models.rule import ListedRule
from openapi_server.models.turn import AgeGroup
from openapi_server.models.user import Role
from openapi_server.moderation.rule_set import RuleSet
from openapi_server.protocols import Moderator, ReplyModerator
from openapi_server.wire.documents import RULE, encode_listed_rule
from openapi_server.worker_threads import run_by_size

ADDRESS = "/api/v1/guardrails/rules"


@async_handler
async def list_rules(context: RequestContext, then: str | None = None, category: str | None = None) -> ASGIApp:
    wanted = {name: value for name, value in (("then", then), ("category", category)) if value is not None}
    listed = await context.services.rule_admin.list_rules()
    rules = [rule for rule in listed if wanted.items() <= rule.document.items()]
    return JSONResponse({"rules": [encode_listed_rule(rule) for rule in rules]})


@async_handler
async def get_rule(context: RequestContext, rule_name: str) -> ASGIApp:
    return _respond_with_rule(await context.services.rule_admin.get_rule(rule_name))


@async_handler
async def put_rule(context: RequestContext, rule_name: str, body: dict[str, Any]) -> ASGIApp:
    require_same_id("name", body["name"], rule_name, "a rule keeps its name")
    with name_fields_as_sent(RULE.encode_field):
        rule, is_new = await context.services.rule_admin.put_rule(
            read_edit(context, rule_name),
            RULE.decode(body),
            may_change_binding_rules=require_user(context).may_act_as(Role.ADMINISTRATOR),
        )
    await record_audit(context, AuditAction.RULE_CHANGED, rule_name)
    return _respond_with_rule(rule, 201, Location=f"{ADDRESS}/{rule_name}") if is_new else _respond_with_rule(rule)


@async_handler
async def delete_rule(context: RequestContext, rule_name: str) -> ASGIApp:
    await context.services.rule_admin.delete_rule(read_edit(context, rule_name))
    await record_audit(context, AuditAction.RULE_CHANGED, rule_name)
    return Response(status_code=204)


@async_handler
async def validate_text(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    animal = await get_active_animal(context, body.get("animalId", context.services.settings.default_animal))
    prompt = Prompt(animal, AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)), "")
    text, is_reply = body["text"].strip(), body.get("direction", "message") == "reply"
    rules, moderator, replies = await _select_rules(context, body.get("rule"))
    masked = await run_by_size(len(text), partial(moderator.mask_pii, text))
    result = await (
        _check_reply(text, prompt, replies) if is_reply else _check_message(masked, text, prompt, moderator)
    )
    guidance = await moderator.list_guidance(animal, prompt.age_group, masked, "" if is_reply else text)
    find_matching = partial(
        rules.find_matching_rules, text if is_reply else masked, prompt, is_reply=is_reply, original=text
    )
    matched = await run_by_size(len(text), find_matching)
    return JSONResponse({**result, "masked": masked, "guidance": list(guidance), "rules": list(matched)})


async def _select_rules(
    context: RequestContext, rule: dict[str, Any] | None
) -> tuple[RuleSet, Moderator, ReplyModerator]:
    """What checks a turn; or, with a rule to try, the rules alone, as if it were one of them."""
    services = context.services
    if rule is None:
        return await services.rule_admin.get_rule_set(), services.moderator, services.reply_moderator
    with name_fields_as_sent(RULE.encode_field, within="rule."):
        rules = await services.rule_admin.preview_rule(RULE.decode(rule))
    return rules, rules.input_rules, rules.output_rules


async def _check_message(masked: str, text: str, prompt: Prompt, moderator: Moderator) -> dict[str, object]:
    verdict = await moderator.check_message(masked, prompt.animal, prompt.age_group, text)
    return _encode_verdict(list(verdict.moderation.categories), verdict.safe_words)


async def _check_reply(text: str, prompt: Prompt, replies: ReplyModerator) -> dict[str, object]:
    category = await run_by_size(len(text), partial(replies.build_check(prompt), text))
    words = replies.get_safe_words(prompt.animal, prompt.age_group) if category else None
    return _encode_verdict([category] if category else [], words)


def _encode_verdict(categories: list[str], words: str | None) -> dict[str, object]:
    action = "replace" if words else "allow"
    return {"flagged": bool(categories), "categories": categories, "action": action, "safeWords": words}


def _respond_with_rule(rule: ListedRule, status: int = 200, **headers: str) -> ASGIApp:
    return respond_with_version(RULE.encode(rule.document), rule.version, status, **headers)
