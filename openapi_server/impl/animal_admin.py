"""Keepers' operations on animals: documents, settings, facts, history, and drafts with their comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import require_user
from openapi_server.http.conditional_requests import encode_etag, respond_with_version
from openapi_server.http.idempotency import idempotent
from openapi_server.impl.document_edits import name_fields_as_sent, read_edit, require_same_id
from openapi_server.knowledge.animal_admin import parse_stored_document, validate_document
from openapi_server.knowledge.drafts import (
    SampleAnswer,
    SampleQuestion,
    answer_questions,
    count_recall,
    get_fact_name,
    list_changed_facts,
    list_questions,
)
from openapi_server.models.animal import Animal
from openapi_server.models.audit import AuditAction
from openapi_server.models.errors import AnimalNotFound, FieldError, InvalidInput
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import (
    Document,
    DocumentEdit,
    Draft,
    VersionedDocument,
    find_changed_fields,
)
from openapi_server.providers.prompt_template import render_system_prompt
from openapi_server.wire.documents import (
    ANIMAL,
    decode_settings,
    encode_change,
    encode_draft,
    encode_facts,
    encode_settings,
)

MAX_ANSWERS = 50


@async_handler
@idempotent()
async def create_animal(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    with name_fields_as_sent(ANIMAL.encode_field):
        stored = await context.services.animal_admin.create_animal(ANIMAL.decode(body), require_user(context).username)
    await record_audit(context, AuditAction.ANIMAL_CHANGED, stored.document_id)
    return respond_with_version(
        ANIMAL.encode(stored.document), stored.version, 201, Location=f"/animal/{stored.document_id}"
    )


@async_handler
async def replace_animal(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    with name_fields_as_sent(ANIMAL.encode_field):
        stored = await context.services.animal_admin.replace_animal(
            _read_edit(context, animal_id), _read_document(animal_id, body)
        )
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return respond_with_version(ANIMAL.encode(stored.document), stored.version)


@async_handler
async def delete_animal(context: RequestContext, animal_id: str) -> ASGIApp:
    await context.services.animal_admin.delete_animal(_read_edit(context, animal_id))
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return Response(status_code=204)


@async_handler
async def get_animal_document(context: RequestContext, animal_id: str) -> ASGIApp:
    stored = await context.services.animal_admin.get_document(animal_id)
    return respond_with_version(ANIMAL.encode(stored.document), stored.version)


@async_handler
async def get_animal_config(context: RequestContext, animal_id: str) -> ASGIApp:
    stored = await context.services.animal_admin.get_document(animal_id)
    return respond_with_version(encode_settings(stored.document), stored.version)


@async_handler
async def set_animal_config(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    with name_fields_as_sent(ANIMAL.encode_field):
        stored = await context.services.animal_admin.update_settings(
            _read_edit(context, animal_id), decode_settings(body)
        )
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return respond_with_version(encode_settings(stored.document), stored.version)


@async_handler
async def get_animal_facts(context: RequestContext, animal_id: str) -> ASGIApp:
    stored = await context.services.animal_admin.get_document(animal_id)
    return respond_with_version(encode_facts(stored.document), stored.version)


@async_handler
@idempotent()
async def put_animal_fact(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    stored, is_new = await context.services.animal_admin.put_fact(_read_edit(context, animal_id), body)
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return respond_with_version(body, stored.version, 201 if is_new else 200)


@async_handler
async def delete_animal_fact(context: RequestContext, animal_id: str, fact_id: str) -> ASGIApp:
    stored = await context.services.animal_admin.delete_fact(_read_edit(context, animal_id), fact_id)
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return Response(status_code=204, headers={"ETag": encode_etag(stored.version)})


@async_handler
async def get_animal_history(
    context: RequestContext, animal_id: str, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    page = await context.services.animal_admin.list_history(animal_id, limit, cursor)
    changes = [encode_change(change) for change in page.items]
    body = {"animalId": animal_id, "changes": changes, "nextCursor": page.next_cursor}
    return JSONResponse(body)


@async_handler
async def get_animal_system_prompt(
    context: RequestContext, animal_id: str, age_group: str = "elementary", message: str | None = None
) -> ASGIApp:
    await context.services.knowledge.refresh()
    animal = context.services.knowledge.get_animal(animal_id)
    if animal is None:
        raise AnimalNotFound
    prompt = await _build_prompt(context, animal, AgeGroup(age_group), message or "")
    fact_ids = [fact.fact_id.rpartition("/")[2] for fact in prompt.facts]
    text = render_system_prompt(prompt)
    body = {"animalId": animal_id, "ageGroup": prompt.age_group, "systemPrompt": text, "factIds": fact_ids}
    return respond_with_version(body, animal.version)


@async_handler
@idempotent()
async def make_draft(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    with name_fields_as_sent(ANIMAL.encode_field):
        draft = await context.services.drafts.put_draft(_read_edit(context, animal_id), _read_document(animal_id, body))
    return JSONResponse(encode_draft(draft), 201, {"Location": f"/animal/{animal_id}/draft"})


@async_handler
async def get_draft(context: RequestContext, animal_id: str) -> ASGIApp:
    return JSONResponse(encode_draft(await context.services.drafts.get_draft(animal_id)))


@async_handler
async def delete_draft(context: RequestContext, animal_id: str) -> ASGIApp:
    await context.services.drafts.delete_draft(animal_id)
    return Response(status_code=204)


@async_handler
@idempotent()
async def promote_draft(context: RequestContext, animal_id: str) -> ASGIApp:
    promoted = await context.services.drafts.promote_draft(_read_edit(context, animal_id))
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return respond_with_version(ANIMAL.encode(promoted.document), promoted.version)


@async_handler
async def compare_draft(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    draft = await context.services.drafts.get_draft(animal_id)
    live = await context.services.animal_admin.get_document(animal_id)
    asked = [SampleQuestion(each["question"], each.get("factId")) for each in body.get("questions", ())]
    age_group = AgeGroup(body.get("ageGroup", AgeGroup.ELEMENTARY))
    return JSONResponse(await _compare(context, live, draft, asked, age_group))


async def _build_prompt(context: RequestContext, animal: Animal, age_group: AgeGroup, message: str) -> Prompt:
    """What a turn would make of the message if it were the first of a session."""
    knowledge = context.services.knowledge
    found = await knowledge.retrieve(animal, message, ()) if message else ()
    facts = await knowledge.rerank(found, message, (), age_group)
    rules = await context.services.moderator.list_guidance(animal, age_group, message)
    return Prompt(animal, age_group, message, facts=tuple(facts), rules=rules)


def _read_edit(context: RequestContext, animal_id: str) -> DocumentEdit:
    """Who wants to change the animal, and which versions of it they have read, which they must say."""
    edit = read_edit(context, animal_id)
    edit.require_condition()
    return edit


def _read_document(animal_id: str, body: dict[str, Any]) -> Document:
    require_same_id("animalId", body["animalId"], animal_id, "an animal keeps its id")
    return ANIMAL.decode(body)


async def _compare(
    context: RequestContext, live: VersionedDocument, draft: Draft, asked: Sequence[SampleQuestion], age_group: AgeGroup
) -> dict[str, object]:
    """In threads, but for the answers: with a thousand facts each step takes a tenth of a second."""
    now_animal, then_animal = both = await asyncio.to_thread(
        lambda: (parse_stored_document(live), validate_document(draft.document, live.document_id))
    )
    _require_facts(asked, {get_fact_name(fact) for animal in both for fact in animal.facts})
    questions = asked or await asyncio.to_thread(list_questions, *both)
    provider = context.services.offline_provider
    now, then = await asyncio.gather(*(answer_questions(animal, questions, age_group, provider) for animal in both))

    def encode() -> dict[str, object]:
        pairs = [_encode_pair(*each) for each in zip(questions, now, then, strict=True)]
        recalls = {"live": _encode_recall(questions, now), "draft": _encode_recall(questions, then)}
        return {
            "animalId": live.document_id,
            "basedOn": draft.based_on,
            "liveVersion": live.version,
            "changedFields": [
                ANIMAL.encode_field(field) for field in find_changed_fields(live.document, draft.document)
            ],
            "changedFacts": list_changed_facts(now_animal, then_animal),
            "asked": len(questions),
            "differing": sum(not pair["isSame"] for pair in pairs),
            "recall": {"expected": sum(each.fact_name is not None for each in questions), **recalls},
            "answers": pairs if asked else [pair for pair in pairs if not pair["isSame"]][:MAX_ANSWERS],
        }

    return await asyncio.to_thread(encode)


def _require_facts(asked: Sequence[SampleQuestion], known: Set[str]) -> None:
    """An unknown name would be counted as never found, in the live animal and in the draft."""
    for index, each in enumerate(asked):
        if each.fact_name is not None and each.fact_name not in known:
            error = FieldError(f"questions.{index}.factId", "must be a fact of the animal or of its draft")
            raise InvalidInput(f"{error.field}: {error.message}", errors=(error,))


def _encode_pair(asked: SampleQuestion, live: SampleAnswer, draft: SampleAnswer) -> dict[str, object]:
    known = {"factId": asked.fact_name} if asked.fact_name else {}
    both = {"live": _encode_answer(live), "draft": _encode_answer(draft)}
    return {"question": asked.question, **known, "isSame": live == draft, **both}


def _encode_answer(answer: SampleAnswer) -> dict[str, object]:
    return {"reply": answer.reply, "factIds": list(answer.fact_names)}


def _encode_recall(questions: Sequence[SampleQuestion], given: Sequence[SampleAnswer]) -> dict[str, int]:
    counted = count_recall(questions, given)
    return {"first": counted.first, "amongThree": counted.among_three}
