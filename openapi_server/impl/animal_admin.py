"""The keepers' operations: animals, their settings, facts and history."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.impl.accounts import caller
from openapi_server.knowledge.admin.animal_admin import Edit
from openapi_server.models.animal import Animal, Prompt
from openapi_server.models.audit import Deed
from openapi_server.models.document import Document, KeptAnimal
from openapi_server.models.errors import AnimalNotFound, FieldError, InvalidInput, VersionRequired
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.prompt import system_prompt
from openapi_server.wire.animal_admin import (
    change_object,
    config_object,
    document_object,
    document_of,
    facts_object,
    settings_of,
)
from openapi_server.wire.etags import etag, versions_in

PRIVATE = {"Cache-Control": "no-store"}


@on_loop
async def create_animal(call: Call, body: dict[str, Any]) -> ASGIApp:
    kept = await call.services.keepers.add(document_of(body), caller(call).username)
    await noted(call, Deed.ANIMAL_CHANGED, kept.animal_id)
    return shown(kept, document_object(kept.document), 201, Location=f"/animal/{kept.animal_id}")


@on_loop
async def replace_animal(call: Call, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    kept = await call.services.keepers.replace(edit_of(call, animal_id), sent_document(animal_id, body))
    await noted(call, Deed.ANIMAL_CHANGED, animal_id)
    return shown(kept, document_object(kept.document))


@on_loop
async def delete_animal(call: Call, animal_id: str) -> ASGIApp:
    await call.services.keepers.remove(edit_of(call, animal_id))
    await noted(call, Deed.ANIMAL_CHANGED, animal_id)
    return Response(status_code=204)


@on_loop
async def get_animal_document(call: Call, animal_id: str) -> ASGIApp:
    kept = await call.services.keepers.read(animal_id)
    return shown(kept, document_object(kept.document))


@on_loop
async def get_animal_config(call: Call, animal_id: str) -> ASGIApp:
    kept = await call.services.keepers.read(animal_id)
    return shown(kept, config_object(kept.document))


@on_loop
async def set_animal_config(call: Call, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    kept = await call.services.keepers.configure(edit_of(call, animal_id), settings_of(body))
    await noted(call, Deed.ANIMAL_CHANGED, animal_id)
    return shown(kept, config_object(kept.document))


@on_loop
async def get_animal_facts(call: Call, animal_id: str) -> ASGIApp:
    kept = await call.services.keepers.read(animal_id)
    return shown(kept, facts_object(kept.document))


@on_loop
async def put_animal_fact(call: Call, animal_id: str, body: dict[str, Any]) -> ASGIApp:
    kept, is_new = await call.services.keepers.put_fact(edit_of(call, animal_id), body)
    await noted(call, Deed.ANIMAL_CHANGED, animal_id)
    return shown(kept, body, 201 if is_new else 200)


@on_loop
async def delete_animal_fact(call: Call, animal_id: str, fact_id: str) -> ASGIApp:
    kept = await call.services.keepers.remove_fact(edit_of(call, animal_id), fact_id)
    await noted(call, Deed.ANIMAL_CHANGED, animal_id)
    return Response(status_code=204, headers={"ETag": etag(kept.version)})


@on_loop
async def get_animal_history(call: Call, animal_id: str, limit: int = 50, cursor: str | None = None) -> ASGIApp:
    page = await call.services.keepers.history(animal_id, limit, cursor)
    changes = [change_object(change) for change in page.items]
    body = {"animalId": animal_id, "changes": changes, "nextCursor": page.next_cursor}
    return JSONResponse(body, headers=PRIVATE)


@on_loop
async def get_animal_system_prompt(
    call: Call, animal_id: str, age_group: str = "elementary", message: str | None = None
) -> ASGIApp:
    await call.services.knowledge.refresh()
    animal = call.services.knowledge.animal(animal_id)
    if animal is None:
        raise AnimalNotFound
    prompt = await _prompt(call, animal, AgeGroup(age_group), message or "")
    fact_ids = [fact.fact_id.rpartition("/")[2] for fact in prompt.facts]
    text = system_prompt(prompt)
    body = {"animalId": animal_id, "ageGroup": prompt.age_group, "systemPrompt": text, "factIds": fact_ids}
    return JSONResponse(body, headers={**PRIVATE, "ETag": etag(animal.version)})


async def _prompt(call: Call, animal: Animal, age_group: AgeGroup, message: str) -> Prompt:
    """What a turn would make of the message, were it a session's first."""
    knowledge = call.services.knowledge
    found = await knowledge.retrieve(animal, message, ()) if message else ()
    facts = await knowledge.rerank(found, message, (), age_group)
    rules = await call.services.moderator.guidance(animal, age_group, message)
    return Prompt(animal, age_group, message, facts=tuple(facts), rules=rules)


def edit_of(call: Call, animal_id: str) -> Edit:
    """Who is about to change the animal, and which versions of it they have seen."""
    if_match = call.headers.get("if-match")
    if if_match is None:
        raise VersionRequired("Send If-Match with the ETag that you read last.")
    return Edit(animal_id, caller(call).username, versions_in(if_match))


def sent_document(animal_id: str, body: dict[str, Any]) -> Document:
    """The document in the body, which must be the animal's that the address names."""
    if body["animalId"] != animal_id:
        message = f"must be {animal_id}, as in the address: an animal keeps its id"
        raise InvalidInput(f"animalId: {message}", errors=(FieldError("animalId", message),))
    return document_of(body)


def shown(kept: KeptAnimal, body: object, status: int = 200, **headers: str) -> ASGIApp:
    """The body, with the version that it was read from."""
    return JSONResponse(body, status, {**PRIVATE, "ETag": etag(kept.version), **headers})
