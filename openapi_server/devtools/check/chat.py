"""Checks of the token stream's contract: unnamed events, a session id from the client, and a stop by disconnecting."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

import httpx

from openapi_server.devtools.check.common_checks import (
    UNKNOWN_ANIMAL,
    CheckFunction,
    InvalidRequest,
    Skipped,
    StreamProbes,
)
from openapi_server.devtools.check.contract_client import QUESTION
from openapi_server.devtools.check.recording import RequestSpec
from openapi_server.devtools.check.stream_rules import check_data_blocks, require, require_members

# A disconnect stops the turn: within this time the session must accept the next message.
STOP_TIMEOUT_S = 1.0


class ChatProbes(StreamProbes):
    """The checks of the contract `tokens`."""

    contract = "tokens"
    operation = "/chat"

    def list_source_checks(self) -> dict[str, CheckFunction]:
        """What the guide's own reader needs, and what its scenarios expect."""
        return super().list_source_checks() | {
            "health": self.check_source_health,
            "data blocks": self.check_data_blocks,
            "members": self.check_members,
            "stages": self.check_stages,
            "tokens": self.check_tokens,
            "next message": self.check_next_message,
            "sessions at once": self.check_sessions_at_once,
            "failures": self.check_source_failures,
        }

    def list_extra_checks(self) -> dict[str, CheckFunction]:
        return super().list_extra_checks() | {
            "one turn at a time": self.check_one_turn_at_a_time,
            "second message": self.check_second_message,
            "abort": self.check_abort,
            "whole answer": self.check_json_response,
        }

    async def make_request(self, message: str) -> RequestSpec:
        return RequestSpec(self.operation, {"message": message, "session_id": str(uuid.uuid4())})

    def change_message(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(message="Hello!")

    def keep_running(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(onDisconnect="continue")

    def refuse_when_busy(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(onBusy="reject")

    def list_invalid_requests(self, request: RequestSpec) -> Sequence[InvalidRequest]:
        return [
            InvalidRequest("blank message", request.with_members(message=" "), (400,), field="message"),
            InvalidRequest("5,001 characters", request.with_members(message="a" * 5001), (400,), field="message"),
            InvalidRequest("a bad session", request.with_members(session_id="../x"), (400,), field="session_id"),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{"), (400,), field="body"),
            InvalidRequest("unknown animal", request.with_members(animal_id=UNKNOWN_ANIMAL), (404,)),
        ]

    async def check_source_health(self) -> str:
        seen = await self.check_health()
        require('"healthy"' in seen, f"{seen}: not healthy")
        return seen

    async def check_data_blocks(self) -> str:
        return check_data_blocks((await self.get_recording()).body)

    async def check_members(self) -> str:
        """Every event has a type, a content and a timestamp."""
        events = (await self.get_recording()).events
        for event in events:
            require_members(event.data, "an event", type=str, content=(str, dict), timestamp=str)
        return f"{len(events)} events"

    async def check_stages(self) -> str:
        """The retrieval is announced and completed before the first token."""
        events = (await self.get_recording()).events
        names = [event.data.get("type") for event in events]
        before = names[: names.index("token")] if "token" in names else names
        missing = [name for name in ("retrieval_start", "retrieval_complete") if name not in before]
        require(not missing, f"no {' and no '.join(missing)} before the first token")
        for event in events[: len(before)]:
            require_members(event.data["content"], str(event.data["type"]), stage=str, status=str)
        return ", ".join(map(str, before))

    async def check_tokens(self) -> str:
        """Tokens, then `done` as the last event."""
        events = (await self.get_recording()).events
        tokens = [event.data["content"] for event in events if event.data.get("type") == "token"]
        require("".join(tokens), "no tokens, or only empty ones")
        last = events[-1].data
        require(last.get("type") == "done", f"the last event is {str(last)[:60]}, not done")
        return f"{len(tokens)} tokens, then done"

    async def check_next_message(self) -> str:
        """After a message that was aborted the next one in the session is answered."""
        request, client = await self.make_request(QUESTION), self.server.new_client()
        await self.new_recorder(lambda events: self.rules.join_text(events) != "").record(client, request)
        return await self._check_done(self.change_message(request), client)

    async def check_sessions_at_once(self) -> str:
        """Three sessions are answered at the same time, as from three tabs."""
        requests = [await self.make_request("Hello!") for _ in range(3)]
        await asyncio.gather(*(self._check_done(request, self.server.new_client()) for request in requests))
        return "three, each to its end"

    async def _check_done(self, request: RequestSpec, client: httpx.AsyncClient) -> str:
        recording = await self.new_recorder().record(client, request)
        require(recording.events, f"POST {request.path}: {recording.status} {recording.body[:80]!r}")
        last = recording.events[-1].data
        require(last.get("type") == "done", f"the last event is {str(last)[:60]}, not done")
        return f"{len(recording.events)} events, the last one done"

    async def check_source_failures(self) -> str:
        """What cannot be answered is refused, in words."""
        return await self.check_failures(RequestSpec(self.operation, "{"), RequestSpec(self.operation, {}))

    async def check_abort(self) -> str:
        """A disconnect after the first token stops the turn, and the session accepts the next message."""
        request, client = await self.make_request(QUESTION), self.server.new_client()
        recorder = self.new_recorder(lambda events: self.rules.join_text(events) != "")
        aborted = await recorder.record(client, request)
        require(aborted.status == 200, f"POST {request.path}: {aborted.status} {aborted.body[:80]!r}")
        if self.server.has_operation("/convo_turn/{turnId}", "get"):
            status = await self._wait_for_end(aborted.turn_id)
            if status == "succeeded":
                raise Skipped("the turn was over before it could be aborted")
            require(status == "stopped", f"{STOP_TIMEOUT_S} s after the abort the turn is {status}, not stopped")
        took_s = await self._wait_until_accepted(self.change_message(request), client)
        return f"stopped; the next message was accepted {took_s:.2f} s later"

    async def _wait_for_end(self, turn_id: str) -> str:
        """The turn's status once it is no longer running, or after `STOP_TIMEOUT_S`."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while True:
                    status = str((await self.get_turn(turn_id))["status"])
                    if status != "running":
                        return status
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return "running"

    async def _wait_until_accepted(self, request: RequestSpec, client: httpx.AsyncClient) -> float:
        """Seconds until the session accepted the next message."""
        began_s = asked_s = time.monotonic()
        while (answer := await self.send(request, client)).status_code == 409:
            require(
                asked_s - began_s < STOP_TIMEOUT_S, f"{STOP_TIMEOUT_S} s after the abort the session still refuses: 409"
            )
            await asyncio.sleep(0.02)
            asked_s = time.monotonic()
        require(answer.status_code == 200, f"the next message: {answer.status_code} {answer.text[:80]!r}")
        return asked_s - began_s

    async def check_json_response(self) -> str:
        """`"streaming": false` and `Accept: application/json` are answered with JSON."""
        request = await self.make_request("Hello!")
        answers = [
            await self.send(request.with_members(streaming=False)),
            await self.send(request.with_headers(Accept="application/json")),
        ]
        for answer in answers:
            require(answer.status_code == 200, f"the JSON answer: {answer.status_code} {answer.text[:80]!r}")
            require(answer.json().get("response"), f"the JSON answer has no response: {answer.text[:80]!r}")
        return f"two ways, {answers[0].json()['response'][:40]!r}"
