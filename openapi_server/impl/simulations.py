"""Simulations: streams that go wrong on purpose, for people who build a client of the platform's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.identity import identify_caller
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.impl.turn_requests import get_active_animal
from openapi_server.models.animal import Animal
from openapi_server.models.errors import ChatError, NotFound, ProviderFailed, TurnTimeout
from openapi_server.models.ids import make_id
from openapi_server.models.turn import AgeGroup, Stage
from openapi_server.models.turn_events import Started, TurnEvent, TurnEventBuilder
from openapi_server.wire.platform import PLATFORM, encode_heartbeat

# The contract's own end of patience: everything has finished or failed by then.
SIMULATED_TIMEOUT_S = 300


@async_handler
async def stream_error(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _simulate(context, body, ProviderFailed("This failure is a simulation."), 0)


@async_handler
async def stream_timeout(context: RequestContext, body: dict[str, Any]) -> ASGIApp:
    return await _simulate(context, body, TurnTimeout("This timeout is a simulation."), SIMULATED_TIMEOUT_S)


async def _simulate(context: RequestContext, body: dict[str, Any], ending: ChatError, silent_s: float) -> ASGIApp:
    settings = context.services.settings
    if not settings.has_simulations:
        raise NotFound("Simulations are off on this server.")
    animal = await get_active_animal(context, body.get("animal_id", settings.default_animal))
    streamer = SSEStreamer(PLATFORM, heartbeat_s=settings.heartbeat_s, clock=context.services.clock)
    started = _make_started_event(animal)
    headers = {"X-Streaming-Session-Id": started.turn_id, **identify_caller(context).headers}
    script = _generate_steps(started, ending, silent_s, settings.heartbeat_s)
    return streamer.create_sse_response(streamer.stream_script(started.turn_id, script), headers)


async def _generate_steps(
    started: Started, ending: ChatError, silent_s: float, heartbeat_s: float
) -> AsyncGenerator[list[TurnEvent] | str, None]:
    """What a turn would say: how it begins, heartbeats for as long as it is silent, and how it fails."""
    narrator = TurnEventBuilder(started)
    yield narrator.start()
    yield narrator.change_stage(Stage.RETRIEVAL, is_complete=True, detail="0 facts found", found=0)
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + silent_s
    while loop.time() < ends_s:
        await asyncio.sleep(min(heartbeat_s, ends_s - loop.time()))
        yield encode_heartbeat(None, 0)
    yield narrator.fail(ending, 0)


def _make_started_event(animal: Animal) -> Started:
    turn_id, session_id = make_id("turn"), make_id("sess")
    names = (animal.animal_id, animal.name)
    return Started(turn_id, session_id, *names, "simulation", AgeGroup.ELEMENTARY, animal.disclosure)
