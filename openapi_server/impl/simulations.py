"""Simulations: streams that go wrong on purpose, for people who build a client of the platform's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import ASGIApp

from openapi_server.engine.turn_start import new_id
from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.identity import identify
from openapi_server.impl.streaming_response import SSEStreamer
from openapi_server.impl.turn_requests import animal_named
from openapi_server.models.animal import Animal
from openapi_server.models.errors import ChatError, NotFound, ProviderFailed, TurnTimeout
from openapi_server.models.turn import AgeGroup, Stage, Started, TurnEvent
from openapi_server.models.turn_events import Narrator
from openapi_server.wire.platform import PLATFORM, heartbeat

# The contract's own end of patience: everything has finished or failed by then.
LONGEST_S = 300


@on_loop
async def stream_error(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _simulated(call, body, ProviderFailed("This failure is a simulation."), 0)


@on_loop
async def stream_timeout(call: Call, body: dict[str, Any]) -> ASGIApp:
    return await _simulated(call, body, TurnTimeout("This timeout is a simulation."), LONGEST_S)


async def _simulated(call: Call, body: dict[str, Any], ending: ChatError, silent_s: float) -> ASGIApp:
    settings = call.services.settings
    if not settings.has_simulations:
        raise NotFound("Simulations are off on this server.")
    animal = await animal_named(call, body.get("animal_id", settings.default_animal))
    streamer = SSEStreamer(PLATFORM, heartbeat_s=settings.heartbeat_s, clock=call.services.clock)
    started = _started(animal)
    headers = {"X-Streaming-Session-Id": started.turn_id, **identify(call).headers}
    script = _script(started, ending, silent_s, settings.heartbeat_s)
    return streamer.create_sse_response(streamer.stream_script(started.turn_id, script), headers)


async def _script(
    started: Started, ending: ChatError, silent_s: float, heartbeat_s: float
) -> AsyncGenerator[list[TurnEvent] | str, None]:
    """What a turn would say: how it begins, heartbeats for as long as it is silent, and how it fails."""
    narrator = Narrator(started)
    yield narrator.begin()
    yield narrator.stage(Stage.RETRIEVAL, is_complete=True, detail="0 facts found", found=0)
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + silent_s
    while loop.time() < ends_s:
        await asyncio.sleep(min(heartbeat_s, ends_s - loop.time()))
        yield heartbeat(None, 0)
    yield narrator.fail(ending, 0)


def _started(animal: Animal) -> Started:
    turn_id, session_id = new_id("turn"), new_id("sess")
    names = (animal.animal_id, animal.name)
    return Started(turn_id, session_id, *names, "simulation", AgeGroup.ELEMENTARY, animal.disclosure)
