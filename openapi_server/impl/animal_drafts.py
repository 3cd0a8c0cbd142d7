"""The keepers' sandbox: a draft beside the live animal, and the answers of both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.impl.animal_admin import PRIVATE, edit_of, sent_document, shown
from openapi_server.knowledge.admin.animal_admin import checked
from openapi_server.knowledge.admin.draft_comparison import (
    Answer,
    Asked,
    answers,
    changed_facts,
    name_of,
    question_set,
    recall,
)
from openapi_server.models.audit import Deed
from openapi_server.models.document import Draft, KeptAnimal, changed_fields
from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.turn import AgeGroup
from openapi_server.wire.animal_admin import document_object, draft_object, field_name

MOST_ANSWERS = 50


@on_loop
async def make_draft(call: Call, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    draft = await call.services.drafts.make(edit_of(call, animal_id), sent_document(animal_id, body))
    return JSONResponse(draft_object(draft), 201, {**PRIVATE, "Location": f"/animal/{animal_id}/draft"})


@on_loop
async def get_draft(call: Call, animal_id: str) -> ASGIApp:
    return JSONResponse(draft_object(await call.services.drafts.read(animal_id)), headers=PRIVATE)


@on_loop
async def delete_draft(call: Call, animal_id: str) -> ASGIApp:
    await call.services.drafts.drop(animal_id)
    return Response(status_code=204)


@on_loop
async def promote_draft(call: Call, animal_id: str) -> ASGIApp:
    kept = await call.services.drafts.promote(edit_of(call, animal_id))
    await noted(call, Deed.ANIMAL_CHANGED, animal_id)
    return shown(kept, document_object(kept.document))


@on_loop
async def compare_draft(call: Call, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    draft, live = await call.services.drafts.read(animal_id), await call.services.keepers.read(animal_id)
    asked = [Asked(each["question"], each.get("factId")) for each in body.get("questions", ())]
    age_group = AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY))
    return JSONResponse(await _compared(call, live, draft, asked, age_group), headers=PRIVATE)


async def _compared(
    call: Call, live: KeptAnimal, draft: Draft, asked: Sequence[Asked], age_group: AgeGroup
) -> dict[str, object]:
    both = [checked(document, live.animal_id) for document in (live.document, draft.document)]
    _require_facts(asked, {name_of(fact) for animal in both for fact in animal.facts})
    questions = asked or question_set(*both)
    voice = call.services.keepers_voice
    now, then = await asyncio.gather(*(answers(animal, questions, age_group, voice) for animal in both))
    pairs = [_pair(*each) for each in zip(questions, now, then, strict=True)]
    recalls = {"live": _recall(questions, now), "draft": _recall(questions, then)}
    return {
        "animalId": live.animal_id,
        "basedOn": draft.based_on,
        "liveVersion": live.version,
        "changedFields": [field_name(field) for field in changed_fields(live.document, draft.document)],
        "changedFacts": changed_facts(*both),
        "asked": len(questions),
        "differing": sum(not pair["isSame"] for pair in pairs),
        "recall": {"expected": sum(each.fact is not None for each in questions), **recalls},
        "answers": pairs if asked else [pair for pair in pairs if not pair["isSame"]][:MOST_ANSWERS],
    }


def _require_facts(asked: Sequence[Asked], known: Set[str]) -> None:
    """A name that is none would be counted as never found, in the live animal and in the draft."""
    for place, each in enumerate(asked):
        if each.fact is not None and each.fact not in known:
            error = FieldError(f"questions.{place}.factId", "must be a fact of the animal or of its draft")
            raise InvalidInput(f"{error.field}: {error.message}", errors=(error,))


def _pair(asked: Asked, live: Answer, draft: Answer) -> dict[str, object]:
    known = {"factId": asked.fact} if asked.fact else {}
    both = {"live": _answer(live), "draft": _answer(draft)}
    return {"question": asked.question, **known, "isSame": live == draft, **both}


def _answer(answer: Answer) -> dict[str, object]:
    return {"reply": answer.reply, "factIds": list(answer.facts)}


def _recall(questions: Sequence[Asked], given: Sequence[Answer]) -> dict[str, int]:
    counted = recall(questions, given)
    return {"first": counted.first, "amongThree": counted.among_three}
