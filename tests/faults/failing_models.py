"""F7: a model server that is absent, refuses, hangs, breaks off or sends malformed data, at each point of a reply."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.figures import Figure, expect_at_most, expect_none
from tests.faults.unsafe_models import KEY, QUESTION, RETRIES, ConvoReply, ask_question, run_server_with
from tests.support.model_dialects import MODEL, PRIVATE_ERROR, OpenAIDialect
from tests.support.scripted_model import FaultPoint, ModelAnswer, ModelFault, ScriptedModel

OFFLINE = "offline-keeper-1"
STATUSES = (
    ModelAnswer(fault=ModelFault.STATUS, status=401),
    ModelAnswer(fault=ModelFault.STATUS, status=429),
    ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="1"),
    ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="60"),
    ModelAnswer(fault=ModelFault.STATUS, status=500),
    ModelAnswer(fault=ModelFault.LONG_ERROR),
)
EMPTY = (ModelAnswer(pieces=()), ModelAnswer(pieces=(" ", "\n")))
BROKEN = tuple(
    ModelAnswer(fault=fault, at=at)
    for fault in ModelFault
    if fault not in (ModelFault.STATUS, ModelFault.LONG_ERROR)
    for at in FaultPoint
)
ANSWERS = (*STATUSES, *EMPTY, *BROKEN)
# A sample with every kind of fault, for the test suite.
FEW_ANSWERS = (STATUSES[1], EMPTY[0], *BROKEN[::5])
# Addresses that do not answer: a closed port and an unknown host name.
ABSENT: Mapping[str, str] = {"refused": "http://127.0.0.1:1", "DNS": "http://nowhere.invalid"}


@dataclass(frozen=True, slots=True)
class FaultResult:
    """What a client saw of a fault. `attempts`: requests to the model in that turn; `secrets`: what it must not see."""

    fault: ModelFault | None
    at: FaultPoint
    reply: ConvoReply
    attempts: int
    secrets: tuple[str, ...]

    @property
    def is_early(self) -> bool:
        """It failed before the first text."""
        return self.at in (FaultPoint.CONNECT, FaultPoint.FIRST)

    @property
    def is_told(self) -> bool:
        """After the first text: as an error, or, when the reply was cut because it was too long, as its end."""
        expected = "length" if self.fault is ModelFault.LONG_LINE else "error"
        return self.reply.finish == expected and bool(self.reply.text)

    @property
    def is_answered(self) -> bool:
        """By the offline provider, named as the model."""
        last = self.reply.events[-1].data
        return self.reply.finish == "stop" and bool(self.reply.text) and last["model"] == OFFLINE

    @property
    def has_secrets(self) -> bool:
        return any(secret in self.reply.raw for secret in self.secrets)


async def provoke_model_faults(
    folder: Path, answers: Sequence[ModelAnswer] = ANSWERS, absent: Mapping[str, str] = ABSENT
) -> list[Figure]:
    results, waited_s = await _run_answers(folder, answers)
    for url in absent.values():
        results.append(await _run_unreachable(folder, url))
    early = [one for one in results if one.is_early]
    late = [one for one in results if not one.is_early]
    return [*_judge_all(results), *_judge_early(early, waited_s), *_judge_late(late)]


def _judge_all(results: Sequence[FaultResult]) -> Iterator[Figure]:
    total = len(results)
    unclear = sum(one.reply.terminals != 1 for one in results)
    yield expect_none("F7", "turns without exactly one terminal event", unclear, total)
    leaks = sum(one.has_secrets for one in results)
    yield expect_none("F7", "turns that tell the model server's words, address or key", leaks, total)


def _judge_early(results: Sequence[FaultResult], waited_s: float) -> Iterator[Figure]:
    unanswered = sum(not one.is_answered for one in results)
    yield expect_none("F7", "failures before the first word without the animal's own answer", unanswered, len(results))
    yield expect_at_most("F7", "attempts in one turn", max(one.attempts for one in results), 1 + RETRIES, "times")
    is_met = 1 <= waited_s < float("inf")
    yield Figure("F7", "the model's reply after 429 with Retry-After: 1", f"{waited_s:.2f} s", "at least 1 s", is_met)


def _judge_late(results: Sequence[FaultResult]) -> Iterator[Figure]:
    unclear = sum(not one.is_told for one in results)
    yield expect_none("F7", "failures after the first word that are not told as one", unclear, len(results))
    again = sum(one.attempts != 1 for one in results)
    yield expect_none("F7", "turns that were tried again after the first word", again, len(results))


async def _run_answers(folder: Path, answers: Sequence[ModelAnswer]) -> tuple[list[FaultResult], float]:
    """Each answer in a turn of its own; then the seconds to a reply after 429 with `Retry-After: 1`."""
    results = []
    async with ScriptedModel(OpenAIDialect()) as model, run_server_with(model.url, folder) as client:
        for answer in answers:
            model.answers, model.requests = (answer,), []
            heard = await ask_question(client, QUESTION)
            seen = FaultResult(answer.fault, answer.at, heard, len(model.requests), (PRIVATE_ERROR, model.url, KEY))
            results.append(seen)
        model.answers, model.requests = (STATUSES[2], ModelAnswer()), []
        began_s = time.monotonic()
        heard = await ask_question(client, QUESTION)
        waited_s = time.monotonic() - began_s
    return results, waited_s if heard.events[-1].data.get("model") == MODEL else float("inf")


async def _run_unreachable(folder: Path, url: str) -> FaultResult:
    async with run_server_with(url, folder) as client:
        return FaultResult(None, FaultPoint.CONNECT, await ask_question(client, QUESTION), 0, (url, KEY))
