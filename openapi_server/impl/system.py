"""The server itself: the welcome page, health and readiness."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server import __version__
from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.models.errors import ChatError, Draining, NotFound, StoreUnavailable, list_error_types
from openapi_server.web.pages import (
    make_content_security_policy,
    make_curl_command,
    render_problems_page,
    render_welcome_page,
)
from openapi_server.wire.animals import encode_summary
from openapi_server.wire.health import HEALTH_JSON, ServerHealth, encode_health, encode_health_json
from openapi_server.wire.problem import encode_problem_type
from openapi_server.wire.timestamps import format_timestamp

# Where the API is described: with Swagger UI, and without.
DOCS_PATHS = {True: "/ui/", False: "/openapi.yaml"}
WELCOME_POLICY = make_content_security_policy("welcome.html")
PROBLEMS_POLICY = make_content_security_policy("problems.html")


@async_handler
async def get_welcome(context: RequestContext) -> ASGIApp:
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
async def list_problem_types(context: RequestContext) -> ASGIApp:
    error_types = list_error_types()
    if _prefers_html(context):
        return _make_problems_page(context, error_types)
    return JSONResponse({"problems": [encode_problem_type(each) for each in error_types]})


@async_handler
async def get_problem_type(context: RequestContext, code: str) -> ASGIApp:
    found = next((each for each in list_error_types() if each.code == code), None)
    if found is None:
        raise NotFound("There is no problem with this code. GET /problems lists them.")
    if _prefers_html(context):
        return _make_problems_page(context, [found])
    return JSONResponse(encode_problem_type(found))


def _prefers_html(context: RequestContext) -> bool:
    return context.choose_media_type("application/json", "text/html") == "text/html"


def _make_problems_page(context: RequestContext, error_types: list[type[ChatError]]) -> ASGIApp:
    page = render_problems_page(context.root_path, error_types)
    return HTMLResponse(page, headers={"Content-Security-Policy": PROBLEMS_POLICY})


@async_handler
async def get_health(context: RequestContext) -> ASGIApp:
    return JSONResponse(
        {
            "status": "healthy",
            "version": __version__,
            "timestamp": format_timestamp(context.services.clock.now()),
            "active_jobs": context.services.engine.running_count,
        }
    )


@async_handler
async def get_readiness(context: RequestContext) -> ASGIApp:
    if context.services.engine.is_draining:
        raise Draining(retry_after_s=5)
    await context.services.store_probe.check()
    return JSONResponse({"status": "ready"})


@async_handler
async def get_system_health(context: RequestContext) -> ASGIApp:
    health = await _describe_health(context)
    if context.choose_media_type("application/json", HEALTH_JSON) == HEALTH_JSON:
        # The format asks for a status of 4xx or 5xx with `fail`, for what looks at nothing else.
        status = 200 if health.is_ready else 503
        return JSONResponse(encode_health_json(health), status, media_type=HEALTH_JSON)
    return JSONResponse(encode_health(health))


@async_handler
async def get_metrics(context: RequestContext) -> ASGIApp:
    page = context.services.metrics
    if page is None or not context.services.settings.may_administrators_read_metrics:
        raise NotFound("The metrics are not served here: see the setting METRICS.")
    # A page has a thousand lines and more.
    body, content_type = await run_in_threadpool(page.render, context.headers.get("accept", ""))
    return Response(body, headers={"Cache-Control": "no-store", "Content-Type": content_type})


async def _describe_health(context: RequestContext) -> ServerHealth:
    services = context.services
    try:
        await services.store_probe.check()
        store_failure = None
    except StoreUnavailable:
        store_failure = "cannot be written to; the server's log says why"
    return ServerHealth(
        version=__version__,
        at=services.clock.now(),
        uptime_s=int(services.clock.monotonic() - services.started_s),
        is_draining=services.engine.is_draining,
        running_turns=services.engine.running_count,
        readers=services.engine.reader_count,
        store_failure=store_failure,
        model=services.provider.list_models()[0].model_id,
        provider=services.provider.get_state(),
        animals=len(services.knowledge.list_animals()),
    )
