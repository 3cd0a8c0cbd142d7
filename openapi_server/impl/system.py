"""The server itself: the welcome page, and how it is."""

from __future__ import annotations

from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp

from openapi_server import __version__
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.models.errors import ChatError, Draining, StoreUnavailable
from openapi_server.web.welcome import curl_to_paste, welcome_page
from openapi_server.wire.animals import summary_object
from openapi_server.wire.timestamps import iso_millis


@on_loop
async def welcome(call: Call) -> ASGIApp:
    await call.services.knowledge.refresh()
    animals = [animal for animal in call.services.knowledge.animals() if animal.status == "active"]
    if call.best_of("text/html", "application/json") == "text/html":
        return HTMLResponse(welcome_page(call.base_url, animals, call.services.settings.default_animal))
    return JSONResponse(
        {
            "name": "Zoo chat",
            "version": __version__,
            "docs": f"{call.base_url}/ui/",
            "try": curl_to_paste(call.base_url, call.services.settings.default_animal),
            "animals": [summary_object(animal) for animal in animals],
        }
    )


@on_loop
async def health(call: Call) -> ASGIApp:
    return JSONResponse(
        {
            "status": "healthy",
            "version": __version__,
            "timestamp": iso_millis(call.services.clock.now()),
            "active_jobs": call.services.engine.running_count,
        }
    )


@on_loop
async def ready(call: Call) -> ASGIApp:
    if call.services.engine.is_draining:
        raise Draining(retry_after_s=5)
    await call.services.store.ping()
    return JSONResponse({"status": "ready"})


@on_loop
async def system_health(call: Call) -> ASGIApp:
    services = call.services
    parts = {
        "store": await _store_part(call),
        "provider": {"status": "up", "detail": services.provider.model},
        "knowledge": {"status": "up", "detail": f"{len(services.knowledge.animals())} animals"},
    }
    is_whole = all(part["status"] == "up" for part in parts.values())
    return JSONResponse(
        {
            "status": "draining" if services.engine.is_draining else "healthy" if is_whole else "degraded",
            "version": __version__,
            "timestamp": iso_millis(services.clock.now()),
            "uptimeSeconds": int(services.clock.monotonic() - services.started_s),
            "turns": {"running": services.engine.running_count, "readers": services.engine.reader_count},
            "parts": parts,
        }
    )


async def _store_part(call: Call) -> dict[str, str]:
    try:
        await call.services.store.ping()
    except StoreUnavailable as error:
        return _down(error)
    return {"status": "up", "detail": "can be written to"}


def _down(error: ChatError) -> dict[str, str]:
    return {"status": "down", "detail": error.title}
