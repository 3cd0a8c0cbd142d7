"""The keepers' operations: animals, their settings, facts and history."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import require_user
from openapi_server.models.animal import Animal
from openapi_server.models.audit import AuditAction
from openapi_server.models.document import Document, DocumentEdit, VersionedDocument
from openapi_server.models.errors import AnimalNotFound, FieldError, InvalidInput, VersionRequired
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.prompt import render_system_prompt
from openapi_server.wire.animal_admin import (
    decode_document,
    decode_settings,
    encode_change,
    encode_document,
    encode_facts,
    encode_settings,
)
from openapi_server.wire.etags import encode_etag, parse_if_match

PRIVATE = {"Cache-Control": "no-store"}


@async_handler
async def create_animal(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    kept = await context.services.animal_admin.create_animal(decode_document(body), require_user(context).username)
    await record_audit(context, AuditAction.ANIMAL_CHANGED, kept.document_id)
    return shown(kept, encode_document(kept.document), 201, Location=f"/animal/{kept.document_id}")


@async_handler
async def replace_animal(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    kept = await context.services.animal_admin.replace_animal(
        edit_of(context, animal_id), sent_document(animal_id, body)
    )
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return shown(kept, encode_document(kept.document))


@async_handler
async def delete_animal(context: RequestContext, animal_id: str) -> ASGIApp:
    await context.services.animal_admin.delete_animal(edit_of(context, animal_id))
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return Response(status_code=204)


@async_handler
async def get_animal_document(context: RequestContext, animal_id: str) -> ASGIApp:
    kept = await context.services.animal_admin.get_document(animal_id)
    return shown(kept, encode_document(kept.document))


@async_handler
async def get_animal_config(context: RequestContext, animal_id: str) -> ASGIApp:
    kept = await context.services.animal_admin.get_document(animal_id)
    return shown(kept, encode_settings(kept.document))


@async_handler
async def set_animal_config(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    kept = await context.services.animal_admin.update_settings(edit_of(context, animal_id), decode_settings(body))
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return shown(kept, encode_settings(kept.document))


@async_handler
async def get_animal_facts(context: RequestContext, animal_id: str) -> ASGIApp:
    kept = await context.services.animal_admin.get_document(animal_id)
    return shown(kept, encode_facts(kept.document))


@async_handler
async def put_animal_fact(context: RequestContext, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    kept, is_new = await context.services.animal_admin.put_fact(edit_of(context, animal_id), body)
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return shown(kept, body, 201 if is_new else 200)


@async_handler
async def delete_animal_fact(context: RequestContext, animal_id: str, fact_id: str) -> ASGIApp:
    kept = await context.services.animal_admin.delete_fact(edit_of(context, animal_id), fact_id)
    await record_audit(context, AuditAction.ANIMAL_CHANGED, animal_id)
    return Response(status_code=204, headers={"ETag": encode_etag(kept.version)})


@async_handler
async def get_animal_history(
    context: RequestContext, animal_id: str, limit: int = 50, cursor: str | None = None
) -> ASGIApp:
    page = await context.services.animal_admin.list_history(animal_id, limit, cursor)
    changes = [encode_change(change) for change in page.items]
    body = {"animalId": animal_id, "changes": changes, "nextCursor": page.next_cursor}
    return JSONResponse(body, headers=PRIVATE)


@async_handler
async def get_animal_system_prompt(
    context: RequestContext, animal_id: str, age_group: str = "elementary", message: str | None = None
) -> ASGIApp:
    await context.services.knowledge.refresh()
    animal = context.services.knowledge.get_animal(animal_id)
    if animal is None:
        raise AnimalNotFound
    prompt = await _prompt(context, animal, AgeGroup(age_group), message or "")
    fact_ids = [fact.fact_id.rpartition("/")[2] for fact in prompt.facts]
    text = render_system_prompt(prompt)
    body = {"animalId": animal_id, "ageGroup": prompt.age_group, "systemPrompt": text, "factIds": fact_ids}
    return JSONResponse(body, headers={**PRIVATE, "ETag": encode_etag(animal.version)})


async def _prompt(context: RequestContext, animal: Animal, age_group: AgeGroup, message: str) -> Prompt:
    """What a turn would make of the message, were it a session's first."""
    knowledge = context.services.knowledge
    found = await knowledge.retrieve(animal, message, ()) if message else ()
    facts = await knowledge.rerank(found, message, (), age_group)
    rules = await context.services.moderator.list_guidance(animal, age_group, message)
    return Prompt(animal, age_group, message, facts=tuple(facts), rules=rules)


def edit_of(context: RequestContext, animal_id: str) -> DocumentEdit:
    """Who is about to change the animal, and which versions of it they have seen."""
    if_match = context.headers.get("if-match")
    if if_match is None:
        raise VersionRequired("Send If-Match with the ETag that you read last.")
    return DocumentEdit(animal_id, require_user(context).username, parse_if_match(if_match))


def sent_document(animal_id: str, body: dict[str, Any]) -> Document:
    """The document in the body, which must be the animal's that the address names."""
    if body["animalId"] != animal_id:
        message = f"must be {animal_id}, as in the address: an animal keeps its id"
        raise InvalidInput(f"animalId: {message}", errors=(FieldError("animalId", message),))
    return decode_document(body)


def shown(kept: VersionedDocument, body: object, status: int = 200, **headers: str) -> ASGIApp:
    """The body, with the version that it was read from."""
    return JSONResponse(body, status, {**PRIVATE, "ETag": encode_etag(kept.version), **headers})
