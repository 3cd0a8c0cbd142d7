"""F7: the mind is a model that is not there, refuses, hangs, breaks off or talks nonsense, wherever it can."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.dialects import MODEL, OWN_WORDS, OpenAIDialect
from tests.faults.figures import Figure, at_most, none_of
from tests.faults.minds import KEY, QUESTION, RETRIES, Heard, ask, server_of
from tests.faults.upstream import Answer, At, Fault, Upstream

OFFLINE = "offline-keeper-1"
STATUSES = (
    Answer(fault=Fault.STATUS, status=401),
    Answer(fault=Fault.STATUS, status=429),
    Answer(fault=Fault.STATUS, status=429, retry_after="1"),
    Answer(fault=Fault.STATUS, status=429, retry_after="60"),
    Answer(fault=Fault.STATUS, status=500),
)
EMPTY = (Answer(pieces=()), Answer(pieces=(" ", "\n")))
BROKEN = tuple(Answer(fault=fault, at=at) for fault in Fault if fault is not Fault.STATUS for at in At)
ANSWERS = (*STATUSES, *EMPTY, *BROKEN)
# One of each kind, now here, now there: for the suite.
FEW_ANSWERS = (STATUSES[1], EMPTY[0], *BROKEN[::5])
# Where nobody answers: nothing listens there, nobody knows the name.
ABSENT: Mapping[str, str] = {"refused": "http://127.0.0.1:1", "DNS": "http://nowhere.invalid"}


@dataclass(frozen=True, slots=True)
class Met:
    """A fault as a visitor met it. `times_asked`: how often the upstream was asked in that turn; `secrets`: its own."""

    at: At
    heard: Heard
    times_asked: int
    secrets: tuple[str, ...]

    @property
    def is_early(self) -> bool:
        """Nothing was said yet when it went wrong."""
        return self.at in (At.CONNECT, At.FIRST)

    @property
    def is_answered(self) -> bool:
        """By the animal itself, in the keepers' words, and it says so."""
        last = self.heard.events[-1].data
        return self.heard.finish == "stop" and bool(self.heard.text) and last["model"] == OFFLINE

    @property
    def tells_secrets(self) -> bool:
        return any(secret in self.heard.raw for secret in self.secrets)


async def faults(folder: Path, answers: Sequence[Answer] = ANSWERS, absent: Mapping[str, str] = ABSENT) -> list[Figure]:
    met, waited_s = await _answered_wrongly(folder, answers)
    for url in absent.values():
        met.append(await _not_answered(folder, url))
    early = [one for one in met if one.is_early]
    late = [one for one in met if not one.is_early]
    return [*_always(met), *_before_the_first_word(early, waited_s), *_after_it(late)]


def _always(met: Sequence[Met]) -> Iterator[Figure]:
    total = len(met)
    unclear = sum(one.heard.terminals != 1 for one in met)
    yield none_of("F7", "turns without exactly one terminal event", unclear, total)
    leaks = sum(one.tells_secrets for one in met)
    yield none_of("F7", "turns that tell the upstream's words, address or key", leaks, total)


def _before_the_first_word(met: Sequence[Met], waited_s: float) -> Iterator[Figure]:
    unanswered = sum(not one.is_answered for one in met)
    yield none_of("F7", "failures before the first word without the animal's own answer", unanswered, len(met))
    yield at_most("F7", "attempts in one turn", max(one.times_asked for one in met), 1 + RETRIES, "times")
    is_met = 1 <= waited_s < float("inf")
    yield Figure("F7", "the model's reply after 429 with Retry-After: 1", f"{waited_s:.2f} s", "at least 1 s", is_met)


def _after_it(met: Sequence[Met]) -> Iterator[Figure]:
    unclear = sum(one.heard.finish != "error" or not one.heard.text for one in met)
    yield none_of("F7", "failures after the first word that are not told as one", unclear, len(met))
    again = sum(one.times_asked != 1 for one in met)
    yield none_of("F7", "turns that were tried again after the first word", again, len(met))


async def _answered_wrongly(folder: Path, answers: Sequence[Answer]) -> tuple[list[Met], float]:
    """Each answer in a turn of its own; then how long a reply takes whose upstream first wants us to wait."""
    met = []
    async with Upstream(OpenAIDialect()) as upstream, server_of(upstream.url, folder) as client:
        for answer in answers:
            upstream.answers, upstream.asked = (answer,), []
            heard = await ask(client, QUESTION)
            met.append(Met(answer.at, heard, len(upstream.asked), (OWN_WORDS, upstream.url, KEY)))
        upstream.answers, upstream.asked = (STATUSES[2], Answer()), []
        began_s = time.monotonic()
        heard = await ask(client, QUESTION)
        waited_s = time.monotonic() - began_s
    return met, waited_s if heard.events[-1].data.get("model") == MODEL else float("inf")


async def _not_answered(folder: Path, url: str) -> Met:
    async with server_of(url, folder) as client:
        return Met(At.CONNECT, await ask(client, QUESTION), 0, (url, KEY))
