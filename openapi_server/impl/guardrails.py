"""Guardrails, for keepers: what the rules make of a text, before a visitor or an animal says it."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.animals import Prompt
from openapi_server.http.bridge import Call, on_loop
from openapi_server.impl.questions import animal_named
from openapi_server.turn import AgeGroup


@on_loop
async def validate_text(call: Call, body: dict[str, Any]) -> ASGIApp:
    animal = await animal_named(call, body.get("animalId", call.services.settings.default_animal))
    age_group = AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY))
    text, moderator = body["text"], call.services.moderator
    masked = moderator.masked(text)
    if body.get("direction", "message") == "reply":
        replies = call.services.reply_moderator
        category = replies.checking(Prompt(animal, age_group, ""))(text)
        categories = [category] if category else []
        words = replies.words(animal, age_group) if category else None
    else:
        verdict = await moderator.check(masked, animal, age_group)
        categories, words = list(verdict.moderation.categories), verdict.safe_words
    return JSONResponse(
        {
            "flagged": bool(categories),
            "categories": categories,
            "action": "replace" if words else "allow",
            "safeWords": words,
            "masked": masked,
            "guidance": list(moderator.guidance(animal, age_group, masked)),
        }
    )
