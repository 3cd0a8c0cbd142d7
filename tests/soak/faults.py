"""The faults, one each minute, in turn. `steady` is never restarted, so that its memory says something."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.faults.convo_client import HttpExchange
from tests.soak.servers import SoakServer
from tests.support.connections import connect, reset
from tests.support.model_dialects import OpenAIDialect
from tests.support.scripted_model import FaultPoint, ModelAnswer, ModelFault, ModelRequest, ScriptedModel

SENTENCES = tuple(f"This is sentence {number} of my story about the savanna. " for number in range(1, 13))
GOOD = ModelAnswer(pieces=SENTENCES, pause_s=0.08)
FAILURES = (
    ModelAnswer(fault=ModelFault.STATUS, status=500),
    ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="1"),
    ModelAnswer(pieces=SENTENCES, fault=ModelFault.RESET, at=FaultPoint.MIDDLE),
    ModelAnswer(pieces=SENTENCES, fault=ModelFault.BAD_JSON, at=FaultPoint.FIRST),
    ModelAnswer(pieces=()),
    GOOD,
)
HANGS = ModelAnswer(fault=ModelFault.HANG, at=FaultPoint.FIRST)
LASTS_S = 20.0
STALLED_READERS = 20


class SoakModel(ScriptedModel):
    """A model server that keeps none of its requests, and takes the answers in turn."""

    turn: Iterator[int] = itertools.count()

    def choose_answer(self, asked: ModelRequest) -> ModelAnswer:
        self.requests.clear()
        return self.answers[next(self.turn) % len(self.answers)]


@asynccontextmanager
async def run_model() -> AsyncIterator[SoakModel]:
    model = SoakModel(OpenAIDialect(), (GOOD,))
    async with model:
        yield model


@dataclass(slots=True)
class Stage:
    """What the faults are done to. `purge` is the operator's command for it."""

    steady: SoakServer
    victim: SoakServer
    model: SoakModel
    folder: Path
    purge: Callable[[], Awaitable[None]]


async def kill_nine(stage: Stage) -> None:
    await stage.victim.stop(signal.SIGKILL)
    await stage.victim.start()


async def restart(stage: Stage) -> None:
    code = await stage.victim.stop(signal.SIGTERM)
    assert code == 0, f"SIGTERM ended with exit code {code}"
    await stage.victim.start()


async def fail_model(stage: Stage) -> None:
    stage.model.answers = FAILURES
    await asyncio.sleep(LASTS_S)
    stage.model.answers = (GOOD,)


async def hang_model(stage: Stage) -> None:
    stage.model.answers = (HANGS, GOOD, GOOD)
    await asyncio.sleep(LASTS_S)
    stage.model.answers = (GOOD,)


async def stall_readers(stage: Stage) -> None:
    """Readers that take in next to nothing, and then vanish."""
    body = {"message": "Tell me everything!", "animalId": "lion_001"}
    stalled = []
    for _ in range(STALLED_READERS):
        exchange = HttpExchange(*await connect(stage.steady.port, receive_buffer=1024))
        payload = httpx.Request("POST", stage.steady.url, json=body).content
        exchange.send("POST", "/convo_turn_stream", {"Content-Type": "application/json"}, payload)
        stalled.append(exchange)
    await asyncio.sleep(LASTS_S)
    for exchange in stalled:
        reset(exchange.writer)


async def fill_disk(stage: Stage) -> None:
    """For the steady server only, in its process: writes beyond the files' present size fail."""
    stage.steady.limit_file_size(4096)
    await asyncio.sleep(LASTS_S / 4)
    stage.steady.limit_file_size(None)


async def leave_log_unread(stage: Stage) -> None:
    """The victim's next life writes its log into a pipe that nobody reads."""
    await stage.victim.stop(signal.SIGTERM)
    await stage.victim.start(has_unread_log=True)


async def pause(stage: Stage) -> None:
    """SIGSTOP for longer than nothing: the victim's clients wait, its timers are late."""
    assert stage.victim.process is not None
    stage.victim.is_expected_up = False
    stage.victim.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(random.uniform(2, 5))  # noqa: S311  # no secret
    stage.victim.process.send_signal(signal.SIGCONT)
    stage.victim.is_expected_up = True


FAULTS: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    kill_nine,
    fail_model,
    restart,
    stall_readers,
    fill_disk,
    leave_log_unread,
    hang_model,
    kill_nine,
    pause,
)
