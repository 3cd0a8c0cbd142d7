"""The server itself: the welcome page, health and readiness."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server import __version__
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.models.errors import ChatError, Draining, NotFound, StoreUnavailable
from openapi_server.web.welcome import make_content_security_policy, make_curl_command, render_welcome_page
from openapi_server.wire.animals import encode_summary
from openapi_server.wire.timestamps import format_timestamp

# Where the API is described: with Swagger UI, and without.
DOCS_PATHS = {True: "/ui/", False: "/openapi.yaml"}
WELCOME_POLICY = make_content_security_policy()


@async_handler
async def welcome(context: RequestContext) -> ASGIApp:
    await context.services.knowledge.refresh()
    animals = [animal for animal in context.services.knowledge.list_animals() if animal.status == "active"]
    if context.choose_media_type("text/html", "application/json") == "text/html":
        default_animal = context.services.settings.default_animal
        links = (context.base_url, context.root_path, DOCS_PATHS[context.services.settings.has_api_docs])
        page = render_welcome_page(*links, animals, default_animal)
        return HTMLResponse(page, headers={"Content-Security-Policy": WELCOME_POLICY})
    return JSONResponse(
        {
            "name": "Zoo chat",
            "version": __version__,
            "docs": context.base_url + DOCS_PATHS[context.services.settings.has_api_docs],
            "try": make_curl_command(context.base_url, context.services.settings.default_animal),
            "animals": [encode_summary(animal) for animal in animals],
        }
    )


@async_handler
async def health(context: RequestContext) -> ASGIApp:
    return JSONResponse(
        {
            "status": "healthy",
            "version": __version__,
            "timestamp": format_timestamp(context.services.clock.now()),
            "active_jobs": context.services.engine.running_count,
        }
    )


@async_handler
async def ready(context: RequestContext) -> ASGIApp:
    if context.services.engine.is_draining:
        raise Draining(retry_after_s=5)
    await context.services.store_probe.check()
    return JSONResponse({"status": "ready"})


@async_handler
async def system_health(context: RequestContext) -> ASGIApp:
    services = context.services
    components = {
        "store": await _check_store(context),
        "provider": {"status": "up", "detail": services.provider.model},
        "knowledge": {"status": "up", "detail": f"{len(services.knowledge.list_animals())} animals"},
    }
    is_healthy = all(component["status"] == "up" for component in components.values())
    return JSONResponse(
        {
            "status": "draining" if services.engine.is_draining else "healthy" if is_healthy else "degraded",
            "version": __version__,
            "timestamp": format_timestamp(services.clock.now()),
            "uptimeSeconds": int(services.clock.monotonic() - services.started_s),
            "turns": {"running": services.engine.running_count, "readers": services.engine.reader_count},
            "parts": components,
        }
    )


@async_handler
async def metrics(context: RequestContext) -> ASGIApp:
    page = context.services.metrics
    if page is None or not context.services.settings.may_administrators_read_metrics:
        raise NotFound("The metrics are not served here: see the setting METRICS.")
    # A page has a thousand lines and more.
    body, content_type = await run_in_threadpool(page.render, context.headers.get("accept", ""))
    return Response(body, headers={"Cache-Control": "no-store", "Content-Type": content_type})


async def _check_store(context: RequestContext) -> dict[str, str]:
    try:
        await context.services.store_probe.check()
    except StoreUnavailable as error:
        return _describe_failure(error)
    return {"status": "up", "detail": "can be written to"}


def _describe_failure(error: ChatError) -> dict[str, str]:
    return {"status": "down", "detail": error.title}
