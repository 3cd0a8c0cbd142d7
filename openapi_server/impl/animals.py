"""Public facts of the animals."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.models.errors import AnimalNotFound
from openapi_server.wire.animals import details_object, summary_object
from openapi_server.wire.etags import etag


@on_loop
async def animal_list(call: Call, status: str | None = None) -> ASGIApp:
    await call.services.knowledge.refresh()
    animals = [animal for animal in call.services.knowledge.animals() if status in (None, animal.status)]
    return JSONResponse({"animals": [summary_object(animal) for animal in animals]})


@on_loop
async def animal(call: Call, animal_id: str) -> ASGIApp:
    return await _details(call, animal_id)


@on_loop
async def animal_details(call: Call, animal_id: str) -> ASGIApp:
    return await _details(call, animal_id)


async def _details(call: Call, animal_id: str) -> ASGIApp:
    await call.services.knowledge.refresh()
    found = call.services.knowledge.animal(animal_id)
    if found is None:
        raise AnimalNotFound("No animal with this id lives in our zoo. GET /animal_list shows who does.")
    return JSONResponse(details_object(found), headers={"ETag": etag(found.version)})
