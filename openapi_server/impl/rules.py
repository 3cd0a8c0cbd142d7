"""Guardrails, for keepers: the rules, and what they make of a text before a visitor or an animal says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.impl.accounts import caller
from openapi_server.impl.turn_requests import animal_named
from openapi_server.models.animal import Prompt
from openapi_server.models.audit import Deed
from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.rule import ListedRule
from openapi_server.models.turn import AgeGroup
from openapi_server.models.user import Role
from openapi_server.moderation.admin.rule_admin import RuleEdit
from openapi_server.moderation.admin.rule_set import RuleSet
from openapi_server.protocols import Moderator, ReplyModerator
from openapi_server.wire.etags import etag, versions_in
from openapi_server.wire.rules import listed_object, rule_field, rule_object, rule_of

ADDRESS = "/api/v1/guardrails/rules"
PRIVATE = {"Cache-Control": "no-store"}


@on_loop
async def list_rules(call: Call, then: str | None = None, category: str | None = None) -> ASGIApp:
    wanted = {name: value for name, value in (("then", then), ("category", category)) if value is not None}
    rules = [rule for rule in await call.services.rules.listed() if wanted.items() <= _choices(rule).items()]
    return JSONResponse({"rules": [listed_object(rule) for rule in rules]}, headers=PRIVATE)


@on_loop
async def get_rule(call: Call, rule_name: str) -> ASGIApp:
    return _shown(await call.services.rules.read(rule_name))


@on_loop
async def put_rule(call: Call, rule_name: str, body: dict[str, Any]) -> ASGIApp:
    if body["name"] != rule_name:
        message = f"must be {rule_name}, as in the address: a rule keeps its name"
        raise InvalidInput(f"name: {message}", errors=(FieldError("name", message),))
    with _wire_names():
        rule, is_new = await call.services.rules.put(_edit_of(call, rule_name), rule_of(body))
    await noted(call, Deed.RULE_CHANGED, rule_name)
    return _shown(rule, 201, Location=f"{ADDRESS}/{rule_name}") if is_new else _shown(rule)


@on_loop
async def delete_rule(call: Call, rule_name: str) -> ASGIApp:
    await call.services.rules.remove(_edit_of(call, rule_name))
    await noted(call, Deed.RULE_CHANGED, rule_name)
    return Response(status_code=204)


@on_loop
async def validate_text(call: Call, body: dict[str, Any]) -> ASGIApp:
    animal = await animal_named(call, body.get("animalId", call.services.settings.default_animal))
    prompt = Prompt(animal, AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY)), "")
    text, is_reply = body["text"], body.get("direction", "message") == "reply"
    rules, moderator, replies = await _asked(call, body.get("rule"))
    tried = _tried_reply(text, prompt, replies) if is_reply else await _tried_message(text, prompt, moderator)
    masked = moderator.masked(text)
    guidance = await moderator.guidance(animal, prompt.age_group, masked)
    matched = rules.matching(text if is_reply else masked, prompt, is_reply=is_reply)
    return JSONResponse({**tried, "masked": masked, "guidance": list(guidance), "rules": list(matched)})


async def _asked(call: Call, rule: dict[str, Any] | None) -> tuple[RuleSet, Moderator, ReplyModerator]:
    """Those who are asked in a turn; or, with a rule to try, the rules alone, as if it were one of them."""
    services = call.services
    if rule is None:
        return await services.rules.current(), services.moderator, services.reply_moderator
    with _wire_names(within="rule."):
        rules = await services.rules.tried(rule_of(rule))
    return rules, rules.moderator, rules.replies


async def _tried_message(text: str, prompt: Prompt, moderator: Moderator) -> dict[str, object]:
    verdict = await moderator.check(moderator.masked(text), prompt.animal, prompt.age_group)
    return _verdict(list(verdict.moderation.categories), verdict.safe_words)


def _tried_reply(text: str, prompt: Prompt, replies: ReplyModerator) -> dict[str, object]:
    category = replies.checking(prompt)(text)
    words = replies.words(prompt.animal, prompt.age_group) if category else None
    return _verdict([category] if category else [], words)


def _verdict(categories: list[str], words: str | None) -> dict[str, object]:
    action = "replace" if words else "allow"
    return {"flagged": bool(categories), "categories": categories, "action": action, "safeWords": words}


def _choices(rule: ListedRule) -> dict[str, object]:
    return {"then": rule.document["then"], "category": rule.document["category"]}


def _edit_of(call: Call, rule_name: str) -> RuleEdit:
    """Who is about to change the rule, and which versions of it they have seen."""
    person, if_match = caller(call), call.headers.get("if-match")
    return RuleEdit(
        rule_name,
        person.username,
        versions=None if if_match is None else versions_in(if_match),
        is_blind=if_match is None,
        must_be_new=call.headers.get("if-none-match", "").strip() == "*",
        may_unbind=person.may_act_as(Role.ADMINISTRATOR),
    )


@contextmanager
def _wire_names(within: str = "") -> Iterator[None]:
    """What is wrong with a rule is named as the caller wrote it."""
    try:
        yield
    except InvalidInput as error:
        named = tuple(FieldError(within + rule_field(each.field), each.message) for each in error.errors)
        raise InvalidInput(f"{named[0].field}: {named[0].message}", errors=named) from None


def _shown(rule: ListedRule, status: int = 200, **headers: str) -> ASGIApp:
    """The rule, with the version that it was read from."""
    return JSONResponse(rule_object(rule.document), status, {**PRIVATE, "ETag": etag(rule.version), **headers})
