"""The token stream's contract: unnamed events, a session that the client names, and a stop by hanging up."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence

import httpx

from openapi_server.devtools.check.findings import Skipped, require
from openapi_server.devtools.check.probes import UNKNOWN_ANIMAL, CheckFunction, InvalidRequest, StreamProbes
from openapi_server.devtools.check.recording import Recording, RequestSpec
from openapi_server.devtools.check.talking import QUESTION

# Hanging up stops a turn at once: this long after it the session takes the next message.
STOP_TIMEOUT_S = 1.0


class ChatProbes(StreamProbes):
    """Probes of the token stream's contract."""

    contract = "tokens"
    operation = "/chat"

    def list_checks(self) -> dict[str, CheckFunction]:
        return super().list_checks() | {
            "one turn at a time": self.check_one_turn_at_a_time,
            "abort": self.check_abort,
            "whole answer": self.check_json_response,
        }

    async def make_request(self, message: str) -> RequestSpec:
        return RequestSpec(self.operation, {"message": message, "session_id": str(uuid.uuid4())})

    def change_message(self, ask: RequestSpec) -> RequestSpec:
        return ask.with_members(message="Hello!")

    def keep_running(self, ask: RequestSpec) -> RequestSpec:
        return ask.with_members(onDisconnect="continue")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """No event of this contract repeats the whole; the stored turn does."""
        return {}

    def list_invalid_requests(self, ask: RequestSpec) -> Sequence[InvalidRequest]:
        return [
            InvalidRequest("blank message", ask.with_members(message=" "), (400,), field="message"),
            InvalidRequest("5,001 characters", ask.with_members(message="a" * 5001), (400,), field="message"),
            InvalidRequest(
                "no session", RequestSpec(self.operation, {"message": "Hello!"}), (400,), field="session_id"
            ),
            InvalidRequest("a bad session", ask.with_members(session_id="../x"), (400,), field="session_id"),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{"), (400,), field="body"),
            InvalidRequest("unknown animal", ask.with_members(animal_id=UNKNOWN_ANIMAL), (404,)),
        ]

    async def check_abort(self) -> str:
        """Hanging up after the first token stops the turn, and the session takes the next message."""
        ask, visitor = await self.make_request(QUESTION), self.server.new_client()
        reading = self.new_recorder(lambda events: self.rules.join_text(events) != "")
        aborted = await reading.record(visitor, ask)
        require(aborted.status == 200, f"POST {ask.path}: {aborted.status} {aborted.body[:80]!r}")
        took_s = await self._wait_until_accepted(self.change_message(ask), visitor)
        if self.server.has_operation("/convo_turn/{turnId}", "get"):
            status = (await self.get_turn(aborted.turn_id))["status"]
            if status == "succeeded":
                raise Skipped("the turn was over before it could be aborted")
            require(status == "stopped", f"the aborted turn is {status}, not stopped")
        return f"stopped; the next message was taken {took_s:.2f} s later"

    async def _wait_until_accepted(self, ask: RequestSpec, visitor: httpx.AsyncClient) -> float:
        """Seconds until the session took the next message."""
        began_s = asked_s = time.monotonic()
        while (answer := await self.send(ask, visitor)).status_code == 409:
            require(
                asked_s - began_s < STOP_TIMEOUT_S, f"{STOP_TIMEOUT_S} s after the abort the session still refuses: 409"
            )
            await asyncio.sleep(0.02)
            asked_s = time.monotonic()
        require(answer.status_code == 200, f"the next message: {answer.status_code} {answer.text[:80]!r}")
        return asked_s - began_s

    async def check_json_response(self) -> str:
        """`"streaming": false` and `Accept: application/json` answer with JSON."""
        ask = await self.make_request("Hello!")
        answers = [
            await self.send(ask.with_members(streaming=False)),
            await self.send(ask.with_headers(Accept="application/json")),
        ]
        for answer in answers:
            require(answer.status_code == 200, f"the JSON answer: {answer.status_code} {answer.text[:80]!r}")
            require(answer.json().get("response"), f"the JSON answer has no response: {answer.text[:80]!r}")
        return f"two ways, {answers[0].json()['response'][:40]!r}"
