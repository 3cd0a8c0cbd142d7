"""The keepers' sandbox: a draft beside the live animal, and the answers of both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.impl.animal_admin import PRIVATE, edit_of, sent_document, shown
from openapi_server.knowledge.admin import validate_document
from openapi_server.knowledge.draft_comparison import (
    SampleAnswer,
    SampleQuestion,
    answer_questions,
    count_recall,
    get_fact_name,
    list_changed_facts,
    list_questions,
)
from openapi_server.models.audit import AuditAction
from openapi_server.models.document import Draft, VersionedDocument, find_changed_fields
from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.turn import AgeGroup
from openapi_server.wire.animal_admin import encode_document, encode_draft, encode_field_name

MOST_ANSWERS = 50


@async_handler
async def make_draft(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    draft = await context.services.drafts.put_draft(edit_of(context, animal_id), sent_document(animal_id, body))
    return JSONResponse(encode_draft(draft), 201, {**PRIVATE, "Location": f"/animal/{animal_id}/draft"})


@async_handler
async def get_draft(context: RequestContext, animal_id: str) -> ASGIApp:
    return JSONResponse(encode_draft(await context.services.drafts.get_draft(animal_id)), headers=PRIVATE)


@async_handler
async def delete_draft(context: RequestContext, animal_id: str) -> ASGIApp:
    await context.services.drafts.delete_draft(animal_id)
    return Response(status_code=204)


@async_handler
async def promote_draft(context: RequestContext, animal_id: str) -> ASGIApp:
    kept = await context.services.drafts.promote_draft(edit_of(context, animal_id))
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return shown(kept, encode_document(kept.document))


@async_handler
async def compare_draft(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    draft, live = (
        await context.services.drafts.get_draft(animal_id),
        await context.services.animal_admin.get_document(animal_id),
    )
    asked = [SampleQuestion(each["question"], each.get("factId")) for each in body.get("questions", ())]
    age_group = AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY))
    return JSONResponse(await _compared(context, live, draft, asked, age_group), headers=PRIVATE)


async def _compared(
    context: RequestContext, live: VersionedDocument, draft: Draft, asked: Sequence[SampleQuestion], age_group: AgeGroup
) -> dict[str, object]:
    both = [validate_document(document, live.document_id) for document in (live.document, draft.document)]
    _require_facts(asked, {get_fact_name(fact) for animal in both for fact in animal.facts})
    questions = asked or list_questions(*both)
    voice = context.services.offline_provider
    now, then = await asyncio.gather(*(answer_questions(animal, questions, age_group, voice) for animal in both))
    pairs = [_pair(*each) for each in zip(questions, now, then, strict=True)]
    recalls = {"live": _recall(questions, now), "draft": _recall(questions, then)}
    return {
        "animalId": live.document_id,
        "basedOn": draft.based_on,
        "liveVersion": live.version,
        "changedFields": [encode_field_name(field) for field in find_changed_fields(live.document, draft.document)],
        "changedFacts": list_changed_facts(*both),
        "asked": len(questions),
        "differing": sum(not pair["isSame"] for pair in pairs),
        "recall": {"expected": sum(each.fact_name is not None for each in questions), **recalls},
        "answers": pairs if asked else [pair for pair in pairs if not pair["isSame"]][:MOST_ANSWERS],
    }


def _require_facts(asked: Sequence[SampleQuestion], known: Set[str]) -> None:
    """A name that is none would be counted as never found, in the live animal and in the draft."""
    for place, each in enumerate(asked):
        if each.fact_name is not None and each.fact_name not in known:
            error = FieldError(f"questions.{place}.factId", "must be a fact of the animal or of its draft")
            raise InvalidInput(f"{error.field}: {error.message}", errors=(error,))


def _pair(asked: SampleQuestion, live: SampleAnswer, draft: SampleAnswer) -> dict[str, object]:
    known = {"factId": asked.fact_name} if asked.fact_name else {}
    both = {"live": _answer(live), "draft": _answer(draft)}
    return {"question": asked.question, **known, "isSame": live == draft, **both}


def _answer(answer: SampleAnswer) -> dict[str, object]:
    return {"reply": answer.reply, "factIds": list(answer.fact_names)}


def _recall(questions: Sequence[SampleQuestion], given: Sequence[SampleAnswer]) -> dict[str, int]:
    counted = count_recall(questions, given)
    return {"first": counted.first, "amongThree": counted.among_three}
