"""The token stream's contract: unnamed events, a session that the client names, and a stop by hanging up."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence

import httpx

from openapi_server.devtools.check.findings import Skipped, require
from openapi_server.devtools.check.probes import NOBODYS_ANIMAL, Check, Mistake, StreamProbes
from openapi_server.devtools.check.recording import Ask, Recording
from openapi_server.devtools.check.talking import QUESTION

# Hanging up stops a turn at once: this long after it the session takes the next message.
STOPS_WITHIN_S = 1.0


class TokenProbes(StreamProbes):
    """Probes of the token stream's contract."""

    contract = "tokens"
    operation = "/chat"

    def checks(self) -> dict[str, Check]:
        return super().checks() | {
            "one turn at a time": self.one_turn_at_a_time,
            "abort": self.abort,
            "whole answer": self.whole_answer,
        }

    async def ask(self, message: str) -> Ask:
        return Ask(self.operation, {"message": message, "session_id": str(uuid.uuid4())})

    def other(self, ask: Ask) -> Ask:
        return ask.saying(message="Hello!")

    def lasting(self, ask: Ask) -> Ask:
        return ask.saying(onDisconnect="continue")

    async def whole_texts(self, recording: Recording) -> Mapping[str, str]:
        """No event of this contract repeats the whole; the stored turn does."""
        return {}

    def mistakes(self, ask: Ask) -> Sequence[Mistake]:
        return [
            Mistake("blank message", ask.saying(message=" "), (400,), field="message"),
            Mistake("5,001 characters", ask.saying(message="a" * 5001), (400,), field="message"),
            Mistake("no session", Ask(self.operation, {"message": "Hello!"}), (400,), field="session_id"),
            Mistake("a bad session", ask.saying(session_id="../x"), (400,), field="session_id"),
            Mistake("no JSON", Ask(self.operation, "{"), (400,), field="body"),
            Mistake("unknown animal", ask.saying(animal_id=NOBODYS_ANIMAL), (404,)),
        ]

    async def abort(self) -> str:
        """Hanging up after the first token stops the turn, and the session takes the next message."""
        ask, visitor = await self.ask(QUESTION), self.site.visitor()
        reading = self.reading(lambda events: self.rules.join_text(events) != "")
        aborted = await reading.of(visitor, ask)
        require(aborted.status == 200, f"POST {ask.path}: {aborted.status} {aborted.body[:80]!r}")
        took_s = await self._until_taken(self.other(ask), visitor)
        if self.site.has("/convo_turn/{turnId}", "get"):
            status = (await self.state_of(aborted.turn_id))["status"]
            if status == "succeeded":
                raise Skipped("the turn was over before it could be aborted")
            require(status == "stopped", f"the aborted turn is {status}, not stopped")
        return f"stopped; the next message was taken {took_s:.2f} s later"

    async def _until_taken(self, ask: Ask, visitor: httpx.AsyncClient) -> float:
        """Seconds until the session took the next message."""
        began_s = asked_s = time.monotonic()
        while (answer := await self.send(ask, visitor)).status_code == 409:
            require(
                asked_s - began_s < STOPS_WITHIN_S, f"{STOPS_WITHIN_S} s after the abort the session still refuses: 409"
            )
            await asyncio.sleep(0.02)
            asked_s = time.monotonic()
        require(answer.status_code == 200, f"the next message: {answer.status_code} {answer.text[:80]!r}")
        return asked_s - began_s

    async def whole_answer(self) -> str:
        """`"streaming": false` and `Accept: application/json` answer with JSON."""
        ask = await self.ask("Hello!")
        answers = [
            await self.send(ask.saying(streaming=False)),
            await self.send(ask.having(Accept="application/json")),
        ]
        for answer in answers:
            require(answer.status_code == 200, f"the JSON answer: {answer.status_code} {answer.text[:80]!r}")
            require(answer.json().get("response"), f"the JSON answer has no response: {answer.text[:80]!r}")
        return f"two ways, {answers[0].json()['response'][:40]!r}"
