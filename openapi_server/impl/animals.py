"""Public operations: the animals and what everybody may know of them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.conditional_requests import encode_etag
from openapi_server.models.animal import Animal
from openapi_server.models.errors import AnimalNotFound
from openapi_server.wire.animals import encode_details, encode_summary

# The bodies of the list by `status`, each with the animals that it was made of: they are the same as long as nothing
# was changed.
_lists: dict[str | None, tuple[Sequence[Animal], bytes]] = {}


@async_handler
async def animal_list(context: RequestContext, status: str | None = None) -> ASGIApp:
    await context.services.knowledge.refresh()
    animals = context.services.knowledge.list_animals()
    kept = _lists.get(status)
    if kept is None or kept[0] is not animals:
        chosen = [animal for animal in animals if status in (None, animal.status)]
        made = JSONResponse({"animals": [encode_summary(animal) for animal in chosen]})
        kept = _lists[status] = (animals, bytes(made.body))
    return Response(kept[1], media_type=JSONResponse.media_type)


@async_handler
async def get_animal(context: RequestContext, animal_id: str) -> ASGIApp:
    return await _respond_with_details(context, animal_id)


@async_handler
async def animal_details(context: RequestContext, animal_id: str) -> ASGIApp:
    return await _respond_with_details(context, animal_id)


async def _respond_with_details(context: RequestContext, animal_id: str) -> ASGIApp:
    await context.services.knowledge.refresh()
    found = context.services.knowledge.get_animal(animal_id)
    if found is None:
        raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
    return JSONResponse(encode_details(found), headers={"ETag": encode_etag(found.version)})
